package ca

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/custody"
	"breakglass/ca/state"
	"breakglass/internal/name"
)

// call is one HTTP request after its door: the body read within its limit, the signature judged.
type call struct {
	*http.Request
	w    http.ResponseWriter
	body []byte
	from netip.Addr
	who  *caller
	over func() // of a large one
}

// large demands that not too many of the caller's calls take megabytes now. It holds until the answer is sent.
func (c *CA) large(k *call) error {
	over, ok := c.callLimits.begin(k.who)
	if !ok {
		return &api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "other large answers are under way with this pass", Next: []string{"wait until they are there, and ask again"}}
	}
	k.over = over
	return nil
}

// Handler serves the interface that package api describes.
func (c *CA) Handler() http.Handler {
	mux := http.NewServeMux()
	// The unsigned asks are limited per network before anything is read.
	ask := func(pattern string, fn func(*call) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			from := addr(r.RemoteAddr)
			if !c.limits.allow(from) {
				c.strangers.add("too_many", from)
				c.problem(w, r, &api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "too many asks from this network", Next: []string{"wait a few seconds and ask again"}})
				return
			}
			c.serve(w, r, api.MaxBody, true, fn)
		})
	}
	on := func(pattern string, limit int64, fn func(*call) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, limit, false, fn) })
	}
	ask("POST /v1/seen", with(func(k *call, q *api.SeenAsk) (any, error) { return c.tellSeen(k.Context(), q, k.from) }))
	ask("POST /v1/requests", with(func(k *call, q *api.Ask) (any, error) { return c.ask(k.Context(), q, k.from) }))
	ask("POST /v1/requests/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		a, err := c.sign(k.Context(), k.PathValue("id"), q.SSHSIG, q.TOTP, k.from)
		if a.waiting != nil {
			return accepted{a.waiting}, nil
		}
		return a.granted, err
	}))
	on("GET /v1/requests", 0, func(k *call) (any, error) { return c.requests(k.Context(), k.who) })
	on("GET /v1/requests/{id}", 0, func(k *call) (any, error) {
		id, err := name.ParseRequestID(k.PathValue("id"))
		if err != nil {
			return nil, badRequest("%v", err)
		}
		q := k.URL.Query()
		if !q.Has("wait") {
			return c.request(k.Context(), id, k.who)
		}
		wait, err1 := strconv.Atoi(q.Get("wait"))
		since, err2 := strconv.ParseInt(q.Get("since"), 10, 64)
		if err := errors.Join(err1, err2); err != nil || wait < 0 || wait > int(api.MaxWait.Seconds()) {
			return nil, badRequest("want wait=SECONDS, at most %d, and since=VERSION", int(api.MaxWait.Seconds()))
		}
		return c.awaitRequest(k.Context(), id, k.who, time.Duration(wait)*time.Second, since)
	})
	ask("POST /v1/approvals", with(func(k *call, q *api.ApprovalAsk) (any, error) { return c.approve(k.Context(), q, k.from) }))
	ask("POST /v1/approvals/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		return c.signApproval(k.Context(), k.PathValue("id"), q.SSHSIG, k.from)
	}))
	for how, stop := range map[string]func(context.Context, name.RequestID, []byte, *caller) (*api.Stopped, error){"kill": c.kill, "end": c.endOwn} {
		on("POST /v1/requests/{id}/"+how, api.MaxBody, func(k *call) (any, error) {
			id, err := name.ParseRequestID(k.PathValue("id"))
			if err != nil || string(id) != k.PathValue("id") { // the path is what was signed
				return nil, badRequest("request %q", k.PathValue("id"))
			}
			return stop(k.Context(), id, k.body, k.who)
		})
	}
	ask("POST /v1/enrolments", with(func(k *call, q *api.EnrolAsk) (any, error) { return c.enrol(k.Context(), q, k.from) }))
	ask("POST /v1/enrolments/{id}/key", with(func(k *call, q *api.EnrolKey) (any, error) {
		return c.enrolKey(k.Context(), k.PathValue("id"), q, k.from)
	}))
	ask("POST /v1/enrolments/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		return c.signEnrolment(k.Context(), k.PathValue("id"), q.SSHSIG, q.TOTP, k.from)
	}))
	on("GET /v1/enrolments", 0, func(k *call) (any, error) { return c.enrolments(k.Context(), k.who) })
	on("GET /v1/keys", 0, func(k *call) (any, error) { return c.keysOf(k.Context(), k.who) })
	on("GET /v1/founding", 0, func(k *call) (any, error) { return c.readFounding(k.Context(), k.who) })
	ask("POST /v1/founding", with(func(k *call, q *api.FoundingAsk) (any, error) { return c.found(k.Context(), q, k.from) }))
	ask("POST /v1/founding/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		return c.signFounding(k.Context(), k.PathValue("id"), q.SSHSIG, k.from)
	}))
	ask("POST /v1/renewals", with(func(k *call, q *api.RenewalAsk) (any, error) { return c.renew(k.Context(), q, k.from) }))
	ask("POST /v1/renewals/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		return c.signRenewal(k.Context(), k.PathValue("id"), q.SSHSIG, k.from)
	}))
	ask("POST /v1/losses", with(func(k *call, q *api.LossAsk) (any, error) { return c.lose(k.Context(), q, k.from) }))
	ask("POST /v1/losses/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		return c.signLoss(k.Context(), k.PathValue("id"), q.SSHSIG, k.from)
	}))
	ask("POST /v1/passes", with(func(k *call, q *api.PassAsk) (any, error) { return c.pass(k.Context(), q, k.from) }))
	ask("POST /v1/passes/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		return c.signPass(k.Context(), k.PathValue("id"), q.SSHSIG, k.from)
	}))
	ask("POST /v1/recipients", with(func(k *call, q *api.RecipientAsk) (any, error) { return c.recipient(k.Context(), q, k.from) }))
	ask("POST /v1/recipients/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		return c.signRecipient(k.Context(), k.PathValue("id"), q.SSHSIG, k.from)
	}))
	ask("POST /v1/recipients/rotation", with(func(k *call, q *api.RotationAsk) (any, error) { return c.rotateRecipient(k.Context(), q, k.from) }))
	ask("POST /v1/recipients/rotation/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		return c.signRotateRecipient(k.Context(), k.PathValue("id"), q.SSHSIG, k.from)
	}))
	on("GET /v1/unlocks", 0, func(k *call) (any, error) { return c.unlocks(k.Context(), k.who) })
	ask("POST /v1/totp/seed", with(func(k *call, q *api.TOTPSeedAsk) (any, error) { return c.totpSeed(q, k.from) }))
	ask("POST /v1/totp", with(func(k *call, q *api.TOTPAsk) (any, error) { return c.totp(k.Context(), q, k.from) }))
	ask("POST /v1/totp/{id}/signature", with(func(k *call, q *api.TOTPSigned) (any, error) {
		return c.signTOTP(k.Context(), k.PathValue("id"), q, k.from)
	}))
	ask("POST /v1/orders", with(func(k *call, q *api.OrderAsk) (any, error) { return c.order(k.Context(), q, k.from) }))
	ask("POST /v1/orders/{id}/signature", with(func(k *call, q *api.SignedOrder) (any, error) {
		return c.signOrder(k.Context(), k.PathValue("id"), q, k.from)
	}))
	on("GET /v1/krl", 0, func(k *call) (any, error) { // public; hosts behind one address ask in the same minute, and it is made once a second
		b, err := c.KRL(k.Context())
		return raw{b, "application/octet-stream"}, err
	})
	ask("GET /v1/site", func(k *call) (any, error) { return c.SiteAnswer(k.Context()) })
	ask("POST /v1/jumps", with(func(k *call, q *api.JoinAsk) (any, error) { return c.join(k.Context(), q, k.from) }))
	on("GET /v1/sessions", 0, func(k *call) (any, error) {
		var id name.RequestID
		if s := k.URL.Query().Get("request"); s != "" {
			var err error
			if id, err = name.ParseRequestID(s); err != nil {
				return nil, badRequest("%v", err)
			}
		}
		return c.sessions(k.Context(), id, k.who)
	})
	on("POST /v1/sessions", api.MaxBody, with(func(k *call, q *api.SessionAsk) (any, error) { return c.openSession(k.Context(), q, k.from) }))
	on("POST /v1/facts", maxFactsBody, with(func(k *call, q *api.FactsAsk) (any, error) { return c.facts(k.Context(), q, k.who) }))
	on("GET /v1/jumps/orders", 0, func(k *call) (any, error) {
		q := k.URL.Query()
		after, err1 := strconv.ParseInt(q.Get("after"), 10, 64)
		wait, err2 := strconv.Atoi(q.Get("wait"))
		if err := errors.Join(err1, err2); err != nil || after < -1 || wait < 0 || wait > int(api.MaxListen.Seconds()) {
			return nil, badRequest("want after=INDEX and wait=SECONDS, at most %d", int(api.MaxListen.Seconds()))
		}
		return c.jumpOrders(k.Context(), k.who, after, time.Duration(wait)*time.Second)
	})
	on("POST /v1/hostcerts", api.MaxBody, with(func(k *call, q *api.HostCertsAsk) (any, error) { return c.hostCerts(k.Context(), q, k.who) }))
	c.policyRoutes(ask, on)
	// Polls of a watching that was recorded have a pace of their own, and count against no pass: a session that never pauses takes many.
	c.transcriptRoutes(on, func(pattern string, fn func(*call) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			c.serve(w, r, 0, c.watching.known(r.URL.Query().Get("id")), fn)
		})
	})
	on("GET /v1/evidence/{id}", 0, func(k *call) (any, error) {
		id, err := name.ParseRequestID(k.PathValue("id"))
		if err != nil {
			return nil, badRequest("%v", err)
		}
		if err := c.large(k); err != nil {
			return nil, err
		}
		return c.evidence(k.Context(), id, k.who)
	})
	c.ledgerRoutes(ask, on)
	c.witnessRoutes(on)
	return mux
}

// maxFactsBody bounds a delivery of facts.
const maxFactsBody = maxFacts * 40 << 10

func (c *CA) transcriptRoutes(on func(string, int64, func(*call) (any, error)), poll func(string, func(*call) (any, error))) {
	session := func(fn func(*call, name.SessionID) (any, error)) func(*call) (any, error) {
		return func(k *call) (any, error) {
			// In a path a session is k7f-2mq.1: a slash would be two segments.
			s := k.PathValue("session")
			id, err := name.ParseSessionID(strings.Replace(s, ".", "/", 1))
			if err != nil || id.File() != s {
				return nil, badRequest("session %q: want something like k7f-2mq.1", s)
			}
			return fn(k, id)
		}
	}
	on("GET /v1/transcripts/{session}/size", 0, session(func(k *call, id name.SessionID) (any, error) { return c.transcriptSize(k.Context(), id, k.who) }))
	on("PUT /v1/transcripts/{session}", api.MaxPiece, session(func(k *call, id name.SessionID) (any, error) {
		offset, err := strconv.ParseInt(k.URL.Query().Get("offset"), 10, 64)
		if err != nil || offset < 0 {
			return nil, badRequest("offset %q", k.URL.Query().Get("offset"))
		}
		return c.putTranscript(k.Context(), id, offset, k.body, k.who)
	}))
	on("PUT /v1/transcripts/{session}/envelope", maxEnvelope, session(func(k *call, id name.SessionID) (any, error) {
		return nil, c.putEnvelope(k.Context(), id, k.body, k.who)
	}))
	on("POST /v1/transcripts/{session}/finish", api.MaxBody, session(func(k *call, id name.SessionID) (any, error) {
		q := new(api.FinishAsk)
		if err := decode(k.body, q); err != nil {
			return nil, err
		}
		return nil, c.finishTranscript(k.Context(), id, q, k.who)
	}))
	on("GET /v1/transcripts/{session}", 0, session(func(k *call, id name.SessionID) (any, error) {
		return sent{}, c.readTranscript(k.w, k.Request, id, k.who)
	}))
	on("POST /v1/transcripts/{session}/watch", api.MaxBody, session(func(k *call, id name.SessionID) (any, error) {
		q := new(api.WatchAsk)
		if err := decode(k.body, q); err != nil {
			return nil, err
		}
		return c.watch(k.Context(), id, q, k.who)
	}))
	poll("GET /v1/transcripts/{session}/watch", session(func(k *call, id name.SessionID) (any, error) {
		q := k.URL.Query()
		offset, err1 := strconv.ParseInt(q.Get("offset"), 10, 64)
		entry, err2 := strconv.ParseInt(q.Get("entry"), 10, 64)
		wait, err3 := strconv.Atoi(q.Get("wait"))
		if err := errors.Join(err1, err2, err3); err != nil || offset < 0 || entry < -1 || wait < 0 || wait > int(api.MaxWatchWait.Seconds()) {
			return nil, badRequest("want offset=BYTES, entry=INDEX and wait=SECONDS, at most %d", int(api.MaxWatchWait.Seconds()))
		}
		return c.watchNews(k.Context(), id, q.Get("id"), offset, entry, time.Duration(wait)*time.Second, k.who)
	}))
	on("POST /v1/transcripts/{session}/watch/end", api.MaxBody, session(func(k *call, id name.SessionID) (any, error) {
		q := new(api.WatchEnd)
		if err := decode(k.body, q); err != nil {
			return nil, err
		}
		return nil, c.watchEnd(k.Context(), id, q, k.who)
	}))
	on("POST /v1/transcripts/{session}/envelope", api.MaxBody, session(func(k *call, id name.SessionID) (any, error) {
		q := new(api.ReadAsk)
		if err := decode(k.body, q); err != nil {
			return nil, err
		}
		b, err := c.readEnvelope(k.Context(), id, q, k.who)
		return raw{b, "application/octet-stream"}, err
	}))
}

// ledgerRoutes are public, but for the entries themselves.
func (c *CA) ledgerRoutes(ask func(string, func(*call) (any, error)), on func(string, int64, func(*call) (any, error))) {
	on("GET /v1/checkpoint", 0, func(*call) (any, error) {
		return raw{[]byte(c.Checkpoint()), "text/plain; charset=utf-8"}, nil
	})
	on("POST "+api.PathTail, api.MaxTailBody, with(func(k *call, q *api.Tail) (any, error) { return c.tail(k.Context(), q, k.who) }))
	ask("POST "+api.PathSeenHead, with(func(k *call, q *api.SeenHead) (any, error) { return c.seenHead(k.Context(), q.Checkpoint) }))
	ask("GET "+api.PathSuccession, func(k *call) (any, error) { return c.succession(k.Request) })
	on("GET /v1/proof/consistency", 0, func(k *call) (any, error) {
		from, err1 := strconv.ParseInt(k.URL.Query().Get("from"), 10, 64)
		to, err2 := strconv.ParseInt(k.URL.Query().Get("to"), 10, 64)
		head, _ := c.state.Head()
		if errors.Join(err1, err2) != nil || from < 0 || from > to || to > head.Size {
			return nil, badRequest("want 0 <= from <= to <= %d", head.Size)
		}
		out := &api.ConsistencyProof{From: from, To: to}
		return out, c.state.View(k.Context(), func(tx *state.Tx) (err error) {
			out.Proof, err = tx.Consistency(from, to)
			return err
		})
	})
	on("GET /v1/entries/{n}", 0, func(k *call) (any, error) {
		if k.who == nil || k.who.person == "" {
			return nil, passNeeded()
		}
		n, err := strconv.ParseInt(k.PathValue("n"), 10, 64)
		var e api.ProvenEntry
		return &e, c.state.View(k.Context(), func(tx *state.Tx) error {
			if err != nil || n < 0 || n >= tx.Size() {
				return &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("the ledger has entries 0 to %d", tx.Size()-1)}
			}
			head, note, err := tx.Head()
			if err != nil {
				return err
			}
			e, err = proven(tx, head.Size, n)
			e.Checkpoint = note
			return err
		})
	})
}

// with decodes a JSON body.
func with[T any](fn func(*call, *T) (any, error)) func(*call) (any, error) {
	return func(k *call) (any, error) {
		q := new(T)
		if err := decode(k.body, q); err != nil {
			return nil, err
		}
		return fn(k, q)
	}
}

func decode(body []byte, v any) error {
	if err := checkBody(body); err != nil {
		return badRequest("%v", err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("%v", err)
	}
	return nil
}

// sent is the answer of a function that wrote its own; raw is one that is no JSON.
// accepted is an answer with status 202: nothing is decided yet.
type sent struct{}
type accepted struct{ body any }
type raw struct {
	body []byte
	typ  string
}

// serve is the one way from request to answer. limited says that the network's limit was asked already.
func (c *CA) serve(w http.ResponseWriter, r *http.Request, limit int64, limited bool, fn func(*call) (any, error)) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			c.log.Error("panic in a request", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			c.problem(w, r, errors.New("internal"))
		}
	}()
	k := &call{Request: r, w: w, from: addr(r.RemoteAddr), over: func() {}}
	defer func() { k.over() }()
	w.Header().Set(api.HeaderVersion, strconv.Itoa(api.Version))
	w.Header().Set(api.HeaderOrigin, c.keys.ledger.Name())
	version, err := clientVersion(r)
	if err != nil {
		c.problem(w, r, err)
		return
	}
	if k.who, err = c.caller(r, k.from); err != nil {
		c.problem(w, r, err)
		return
	}
	if !limited && !c.callLimits.allow(k.who, k.from) {
		c.strangers.add("too_many", k.from)
		c.problem(w, r, tooMany())
		return
	}
	// Large bodies are the jumps' and the owners': whoever is neither would hold megabytes a connection, on thousands of connections.
	if limit > api.MaxBody {
		err := c.mayBeLarge(k.who)
		if err == nil {
			err = c.large(k)
		}
		if err != nil {
			c.problem(w, r, err)
			return
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		c.problem(w, r, &api.Problem{Status: 413, Code: api.CodeBadRequest, Detail: fmt.Sprintf("the body is over %d bytes", tooLong.Limit)})
		return
	} else if err != nil {
		return // the client is gone
	}
	k.body = body
	if err := c.sealed(k.who, body, k.from); err != nil {
		c.problem(w, r, err)
		return
	}
	if r.Method != http.MethodGet && r.URL.Path != api.PathTail && r.URL.Path != api.PathSeenHead { // before somebody touches a key for nothing
		if err := c.refusesNow(); err != nil {
			c.problem(w, r, err)
			return
		}
	}
	out, err := fn(k)
	if err != nil {
		c.problem(w, r, err)
		return
	}
	status := http.StatusOK
	if x, ok := out.(accepted); ok {
		out, status = x.body, http.StatusAccepted
	}
	switch x := out.(type) {
	case sent:
	case nil:
		w.WriteHeader(http.StatusNoContent)
	case raw:
		w.Header().Set("Content-Type", x.typ)
		w.Write(x.body)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		if err := e.Encode(api.Trim(out, version)); err != nil {
			c.log.Warn("answering", "path", r.URL.Path, "error", err)
		}
	}
}

// clientVersion is the newest version of the interface that the caller knows. A newer one than ours is served what we have.
func clientVersion(r *http.Request) (int, error) {
	n, err := api.ParseVersion(r.Header.Get(api.HeaderVersion))
	if err != nil {
		return 0, badRequest("%v", err)
	}
	if n < api.OldestVersion {
		return 0, &api.Problem{Status: 400, Code: api.CodeVersion, Detail: fmt.Sprintf("this client speaks version %d of the interface, the CA %d to %d", n, api.OldestVersion, api.Version),
			Next: []string{"install the breakglass of the CA's version, or a later one"}}
	}
	return n, nil
}

// problem is the one switch from error to HTTP status. What is not meant for the caller goes to the log alone.
func (c *CA) problem(w http.ResponseWriter, r *http.Request, err error) {
	p := new(api.Problem)
	switch {
	case errors.As(err, &p):
	case errors.Is(err, state.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		p = &api.Problem{Status: http.StatusServiceUnavailable, Code: api.CodeTooMany, Detail: "busy, or stopping", Next: []string{"try again"}}
	case errors.Is(err, state.ErrFull):
		c.log.Error("the ledger's disk is full: nothing can be granted until there is room", "error", err)
		p = &api.Problem{Status: http.StatusInsufficientStorage, Code: api.CodeFull, Detail: "the ledger's disk is full, and what can't be recorded isn't done",
			Next: []string{"ask an operator to make room on the CA's disk"}}
	case errors.Is(err, state.ErrUnknown), errors.Is(err, state.ErrFailed):
		c.log.Error("the ledger could not be written: nothing of it was acted on", "method", r.Method, "path", r.URL.Path, "error", err)
		p = &api.Problem{Status: http.StatusServiceUnavailable, Code: api.CodeUnknown, Detail: "the ledger could not be written, so nothing was handed out; whether the decision stands shows when you ask",
			Next: []string{"ask again", "breakglass requests shows what stands"}}
	case errors.Is(err, custody.ErrUnavailable):
		c.log.Error("a CA key can't be used: nothing is issued with it until it can", "error", err)
		p = &api.Problem{Status: http.StatusServiceUnavailable, Code: api.CodeCustody, Detail: "the CA can't reach its signing key; nothing was issued",
			Next: []string{"try again", "ask an operator to look at the CA's ssh-agent or token: its log says what is wrong"}}
	case errors.Is(err, state.ErrInviteSpent):
		p = inviteRefused()
	default:
		c.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		p = &api.Problem{Status: http.StatusInternalServerError, Code: api.CodeInternal, Detail: "the CA could not do it; its log says why", Next: []string{"ask an operator to look at the CA's log"}}
	}
	q := *p
	q.Title = http.StatusText(q.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(q.Status)
	json.NewEncoder(w).Encode(q)
}
