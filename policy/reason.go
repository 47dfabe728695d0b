package policy

import "strings"

// Code is the stable name of a reason: entries, problem answers and [[test]] blocks carry it. A code is never
// renamed and never used for anything else.
type Code string

const (
	UnknownPerson      Code = "unknown_person"
	UnknownHost        Code = "unknown_host"
	KindNotAllowed     Code = "kind_not_allowed" // an override where the rule offers none, or a kind that isn't known
	KeyNotKnown        Code = "key_unknown"
	KeyIsPending       Code = "key_pending"
	KeyIsSuspended     Code = "key_suspended"
	KeyIsLapsed        Code = "key_lapsed"
	KeyIsRevoked       Code = "key_revoked"
	TouchMissing       Code = "touch_missing"
	UVMissing          Code = "uv_missing"
	ReasonTooShort     Code = "reason_too_short"
	MinutesInvalid     Code = "minutes_invalid"
	AddressUnknown     Code = "address_unknown"
	NetworkDenied      Code = "network_denied"
	CountryDenied      Code = "country_denied"
	CountryUnknown     Code = "country_unknown"
	AnonymousDenied    Code = "anonymous_denied"
	AnonymousUnknown   Code = "anonymous_unknown"
	SubdivisionDenied  Code = "subdivision_denied"
	SubdivisionUnknown Code = "subdivision_unknown"
	ASNDenied          Code = "asn_denied"
	ASNUnknown         Code = "asn_unknown"
	AnotherCountry     Code = "another_country" // a grant of the person is alive that came from another country
	NoRule             Code = "no_rule"         // no rule names the person
	HostNotAllowed     Code = "host_not_allowed"
	LoginNotAllowed    Code = "login_not_allowed"
	NetworkNotAllowed  Code = "network_not_allowed" // outside the rule's networks
	TicketMissing      Code = "ticket_missing"
	TicketInvalid      Code = "ticket_invalid"
	ForwardsNotAllowed Code = "forwards_not_allowed"
	DrillOnly          Code = "drill_only"
	TOTPMissing        Code = "totp_missing"
	Vetoed             Code = "vetoed"             // an approver said no, and the rule makes that the end
	OverrideEarly      Code = "override_too_early" // before the rule's time
	GrantEnded         Code = "grant_ended"
	GrantNotStarted    Code = "grant_not_started"
	OutsideWindow      Code = "outside_window"
	InsideWindow       Code = "inside_window" // of not_when
	NotOnCall          Code = "not_on_call"
	OnCallUnknown      Code = "oncall_unknown" // the list is missing, unreadable, too old
	SeverityUnknown    Code = "severity_unknown"
	SeverityNotAllowed Code = "severity_not_allowed"
	FailureUnknown     Code = "failure_unknown"
	FailureMissing     Code = "failure_missing"
	FailureNotAllowed  Code = "failure_not_allowed"
	TooManyGrants      Code = "too_many_grants"
)

// Codes lists every code.
func Codes() []Code {
	return []Code{UnknownPerson, UnknownHost, KindNotAllowed, KeyNotKnown, KeyIsPending, KeyIsSuspended, KeyIsLapsed, KeyIsRevoked,
		TouchMissing, UVMissing, ReasonTooShort, MinutesInvalid, AddressUnknown, NetworkDenied, CountryDenied, CountryUnknown,
		AnonymousDenied, AnonymousUnknown, SubdivisionDenied, SubdivisionUnknown, ASNDenied, ASNUnknown, AnotherCountry, NoRule, HostNotAllowed, LoginNotAllowed, NetworkNotAllowed, TicketMissing, TicketInvalid,
		ForwardsNotAllowed, DrillOnly, TOTPMissing, Vetoed, OverrideEarly, GrantEnded, GrantNotStarted,
		OutsideWindow, InsideWindow, NotOnCall, OnCallUnknown, SeverityUnknown, SeverityNotAllowed, FailureUnknown, FailureMissing, FailureNotAllowed, TooManyGrants}
}

// Reason is one thing that speaks against a request: what happened and why (Detail), and what to do or type (Next).
type Reason struct {
	Code   Code   `json:"code"`
	Detail string `json:"detail"`
	Next   string `json:"next,omitempty"`
}

// Text is the reason on one line.
func (r Reason) Text() string {
	if r.Next == "" {
		return r.Detail
	}
	return r.Detail + "; " + r.Next
}

func codesOf(reasons []Reason) string {
	out := make([]string, len(reasons))
	for i, r := range reasons {
		out[i] = string(r.Code)
	}
	return strings.Join(out, ", ")
}
