package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/state"
)

// apiCode is the code of an answer {"error":{"code","message"}} of the HTTP API.
// The set is closed: backends branch on it.
type apiCode string

// Codes of the HTTP API.
const (
	apiMalformed    apiCode = "malformed"              // the body is not JSON, or the query cannot be read
	apiInvalid      apiCode = "invalid"                // a field, a parameter or a header has a value that it cannot have
	apiUnauthorized apiCode = "unauthorized"           // ADMIN_TOKEN is missing or wrong
	apiNotFound     apiCode = "not_found"              // no such path, or no such socket anywhere
	apiMethod       apiCode = "method_not_allowed"     // the path has other methods
	apiTooLarge     apiCode = "too_large"              // the body, or a message in it
	apiMediaType    apiCode = "unsupported_media_type" // a body that says that it is not JSON
	apiKeyReused    apiCode = "key_reused"             // the Idempotency-Key was used with another body
	apiTooMany      apiCode = "too_many"               // more than one answer may have
	apiBusy         apiCode = "busy"                   // the node has too many requests under way
	apiQueueFull    apiCode = "queue_full"             // too many messages wait for Redis
	apiUnavailable  apiCode = "unavailable"            // Redis cannot be asked, or refused: nothing was done, or not all of it
	apiUnknown      apiCode = "unknown"                // Redis did not answer: it may have been done
	apiIncomplete   apiCode = "incomplete"             // not every node has answered, or carried it out
)

// What is said in more than one place.
const (
	unavailableText = "redis is not reachable, or refused; try again later"
	unknownText     = "redis did not answer in time: the message may have been published, or may be yet; with the same Idempotency-Key it is safe to try again"
	incompleteText  = "not every node has answered in time, or carried it out; it is safe to try again"
	busyText        = "too many requests of the API are under way on this node, try again later"
)

// apiStatus is the HTTP status that a code goes with.
var apiStatus = map[apiCode]int{
	apiMalformed: http.StatusBadRequest, apiInvalid: http.StatusBadRequest, apiUnauthorized: http.StatusUnauthorized,
	apiNotFound: http.StatusNotFound, apiMethod: http.StatusMethodNotAllowed, apiTooLarge: http.StatusRequestEntityTooLarge,
	apiMediaType: http.StatusUnsupportedMediaType, apiKeyReused: http.StatusUnprocessableEntity, apiTooMany: http.StatusConflict,
	apiBusy: http.StatusServiceUnavailable, apiQueueFull: http.StatusServiceUnavailable, apiUnavailable: http.StatusServiceUnavailable,
	apiUnknown: http.StatusGatewayTimeout, apiIncomplete: http.StatusGatewayTimeout,
}

// problem is why a request of the API was not carried out. It is an error whose
// text is for people.
type problem struct {
	Code    apiCode `json:"code"`
	Message string  `json:"message"`
}

// Error returns the message.
func (p *problem) Error() string { return p.Message }

// problemf makes a problem.
func problemf(code apiCode, format string, args ...any) *problem {
	return &problem{code, fmt.Sprintf(format, args...)}
}

// invalidf makes a problem of a value.
func invalidf(format string, args ...any) *problem { return problemf(apiInvalid, format, args...) }

// publishProblem says why a message was not published. Redis's words stay in the log.
func publishProblem(err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, state.ErrConflict):
		return problemf(apiKeyReused, "the Idempotency-Key was used for another request within 5 minutes")
	case errors.Is(err, state.ErrQueueFull):
		return problemf(apiQueueFull, "too many messages wait for redis, try again later")
	case errors.Is(err, engine.ErrTooLarge):
		return problemf(apiTooLarge, "the message is larger than its receivers may be sent")
	case errors.Is(err, state.ErrUnknown), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problemf(apiUnknown, "%s", unknownText)
	}
	return problemf(apiUnavailable, "%s", unavailableText)
}

// fleetProblem says why the other nodes could not be asked, or told.
func fleetProblem(err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problemf(apiIncomplete, "%s", incompleteText)
	case errors.Is(err, state.ErrAnswersTooLarge):
		return problemf(apiTooMany, "there are more sockets than one answer may have")
	case errors.Is(err, state.ErrTooManyRequests), errors.Is(err, state.ErrQueueFull):
		return problemf(apiBusy, "%s", busyText)
	}
	return problemf(apiUnavailable, "%s", unavailableText)
}
