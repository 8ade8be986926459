package report

func HTML(r *Report) []byte { return nil }
