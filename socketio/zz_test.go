package socketio
import ("testing";"os";"encoding/json";"bytes")
func TestZZ(t *testing.T){
 text,_:=os.ReadFile("/tmp/sionode/big.json")
 var vs []struct{JSON,Hex,Back string}
 json.Unmarshal(text,&vs)
 bad:=0
 for _,v:=range vs { want:=unhex(t,v.Hex); got,err:=AppendMsgpackFromJSON(nil,[]byte(v.JSON),nil)
  if !bytes.Equal(got,want){ bad++; i:=0; for i<len(got)&&i<len(want)&&got[i]==want[i]{i++}; if bad<8 {t.Errorf("%v at %d/%d/%d got % x want % x",err,i,len(got),len(want),got[max(0,i-12):min(len(got),i+12)],want[max(0,i-12):min(len(want),i+12)])}}
  back,_:=jsonOf(t,want); if back!=v.Back {bad++; i:=0; for i<len(back)&&i<len(v.Back)&&back[i]==v.Back[i]{i++}; if bad<8 {t.Errorf("back %q %q",back[max(0,i-12):min(len(back),i+12)],v.Back[max(0,i-12):min(len(v.Back),i+12)])}}
 }
 t.Log(len(vs),bad)
}
