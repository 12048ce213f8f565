package quorumwatch

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quorumwatchv1 "quorumwatch.dev/client/quorumwatch/v1"
)

// Domain is the domain of every google.rpc.ErrorInfo that a replica sends.
const Domain = "quorumwatch.dev"

// delayMax is the longest retry delay that is honoured: API servers keep five minutes of history.
const delayMax = time.Minute

// Reaction is what a client does after a failed call. See proto/quorumwatch/v1/error.proto.
type Reaction int

const (
	// Fix the request: it is invalid. Do not repeat it.
	Fix Reaction = iota
	// Elsewhere: try another replica immediately, this one again after Failure.RetryDelay.
	Elsewhere
	// Repeat the request, with the same request_id, at any replica.
	Repeat
	// Read again, then decide.
	Read
)

// Failure is the reason why a call failed, read from its status: a call of any service, not only a
// subscription. It is also the error of a subscription that every replica would reject.
type Failure struct {
	// Endpoint is the replica that returned the error; empty if it is not known.
	Endpoint string
	Code     codes.Code
	// Message is one readable sentence.
	Message string
	// Reason is an ErrorReason without its prefix, such as "NO_QUORUM"; empty if the status does not
	// come from a replica.
	Reason     string
	Reaction   Reaction
	RetryDelay time.Duration
	// Violations are the invalid fields, or the exceeded limits, such as
	// "filters[0].resources: is not known".
	Violations []string

	cause error
}

// FailureOf reads the status of a failed call.
func FailureOf(err error) *Failure {
	failed := status.Convert(err)
	failure := &Failure{Code: failed.Code(), Message: failed.Message(), cause: err}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == Domain {
				failure.Reason = detail.GetReason()
			}
		case *errdetails.RetryInfo:
			failure.RetryDelay = min(detail.GetRetryDelay().AsDuration(), delayMax)
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				failure.violates(violation.GetField(), violation.GetDescription())
			}
		case *errdetails.QuotaFailure:
			for _, violation := range detail.GetViolations() {
				failure.violates(violation.GetSubject(), violation.GetDescription())
			}
		}
	}
	failure.Reaction = reactionTo(failure.Code, failure.Reason)
	return failure
}

// Error returns one readable sentence, with the invalid fields.
func (f *Failure) Error() string {
	name := f.Reason
	if name == "" {
		name = f.Code.String()
	}
	text := fmt.Sprintf("%s (%s)", f.Message, name)
	if f.Endpoint != "" {
		text = fmt.Sprintf("%s refuses the request: %s", f.Endpoint, text)
	}
	for _, violation := range f.Violations {
		// The message of a replica may contain it already.
		if !strings.Contains(f.Message, violation) {
			text += "; " + violation
		}
	}
	return text
}

// Unwrap returns the error of gRPC.
func (f *Failure) Unwrap() error {
	return f.cause
}

// IsCursor reports whether the saved cursor is damaged, or belongs to another group. Start without
// it, or correct the endpoints.
func (f *Failure) IsCursor() bool {
	switch f.Reason {
	case "CURSOR_INVALID", "CURSOR_FOREIGN", "CURSOR_FROM_LOST_STATE":
		return true
	}
	return false
}

func (f *Failure) violates(what, how string) {
	f.Violations = append(f.Violations, what+": "+how)
}

func reactionTo(code codes.Code, reason string) Reaction {
	known, isKnown := quorumwatchv1.ErrorReason_value["ERROR_REASON_"+reason]
	if !isKnown || reason == "" {
		return reactionToCode(code)
	}
	switch quorumwatchv1.ErrorReason(known) {
	case quorumwatchv1.ErrorReason_ERROR_REASON_CURSOR_TOO_NEW,
		quorumwatchv1.ErrorReason_ERROR_REASON_REPLICA_BEHIND,
		quorumwatchv1.ErrorReason_ERROR_REASON_GROUP_NOT_FORMED,
		quorumwatchv1.ErrorReason_ERROR_REASON_NO_QUORUM,
		quorumwatchv1.ErrorReason_ERROR_REASON_REPLICA_STOPPING,
		quorumwatchv1.ErrorReason_ERROR_REASON_REPLICA_FULL:
		return Elsewhere
	case quorumwatchv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN,
		quorumwatchv1.ErrorReason_ERROR_REASON_SUBSCRIBER_TOO_SLOW:
		return Repeat
	case quorumwatchv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH,
		quorumwatchv1.ErrorReason_ERROR_REASON_SHARD_NOT_MOVED:
		return Read
	}
	return Fix
}

// reactionToCode is for a status without a reason that this version knows: from a proxy, from gRPC
// itself, or from a later version.
func reactionToCode(code codes.Code) Reaction {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange,
		codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented, codes.DataLoss:
		return Fix
	}
	return Elsewhere
}

// ClosedError means that the server has ended the subscription permanently before it was complete.
type ClosedError struct {
	Closing *quorumwatchv1.Closing
}

// Error returns one readable sentence.
func (e *ClosedError) Error() string {
	if message := e.Closing.GetMessage(); message != "" {
		return message
	}
	return e.Closing.GetReason().String()
}
