package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

func post[T any](ctx context.Context, c *Client, path string, in any) (*T, error) {
	out := new(T)
	if err := c.call(ctx, http.MethodPost, path, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	out := new(T)
	if err := c.call(ctx, http.MethodGet, path, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// segment escapes an id that the other side gave.
func segment(id string) string { return url.PathEscape(id) }

// The methods below are the endpoints of package api, one each.

func (c *Client) Ask(ctx context.Context, q api.Ask) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/requests", q)
}

func (c *Client) Request(ctx context.Context, id name.RequestID) (*api.RequestState, error) {
	return get[api.RequestState](ctx, c, "/v1/requests/"+segment(string(id)))
}

func (c *Client) Enrol(ctx context.Context, q api.EnrolAsk) (*api.EnrolChallenge, error) {
	return post[api.EnrolChallenge](ctx, c, "/v1/enrolments", q)
}

func (c *Client) EnrolKey(ctx context.Context, id string, q api.EnrolKey) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/enrolments/"+segment(id)+"/key", q)
}

func (c *Client) SignEnrolment(ctx context.Context, id string, s api.Signed) (*api.Enrolled, error) {
	return post[api.Enrolled](ctx, c, "/v1/enrolments/"+segment(id)+"/signature", s)
}

func (c *Client) Pass(ctx context.Context, q api.PassAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/passes", q)
}

func (c *Client) SignPass(ctx context.Context, id string, s api.Signed) (*api.PassState, error) {
	return post[api.PassState](ctx, c, "/v1/passes/"+segment(id)+"/signature", s)
}

func (c *Client) Recipient(ctx context.Context, q api.RecipientAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/recipients", q)
}

// Rotate puts a recipient in the place of one.
func (c *Client) Rotate(ctx context.Context, q api.RotationAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/recipients/rotation", q)
}

func (c *Client) SignRotation(ctx context.Context, id string, s api.Signed) (*api.RecipientState, error) {
	return post[api.RecipientState](ctx, c, "/v1/recipients/rotation/"+segment(id)+"/signature", s)
}

func (c *Client) SignRecipient(ctx context.Context, id string, s api.Signed) (*api.RecipientState, error) {
	return post[api.RecipientState](ctx, c, "/v1/recipients/"+segment(id)+"/signature", s)
}

// Sessions lists sessions, all or those of one request.
func (c *Client) Sessions(ctx context.Context, request name.RequestID) ([]api.SessionState, error) {
	path := "/v1/sessions"
	if request != "" {
		path += "?request=" + url.QueryEscape(string(request))
	}
	out, err := get[[]api.SessionState](ctx, c, path)
	if err != nil {
		return nil, err
	}
	return *out, nil
}

// Site gives the newest site, proved: its entry is in the ledger whose key is pinned.
func (c *Client) Site(ctx context.Context) (*api.SiteAnswer, error) {
	a, err := get[api.SiteAnswer](ctx, c, "/v1/site")
	if err != nil {
		return nil, err
	}
	if err := c.checkSite(ctx, a); err != nil {
		return nil, err
	}
	c.Follow(a.Site)
	return a, nil
}

func (c *Client) Join(ctx context.Context, q *api.JoinAsk) (*api.JoinAnswer, error) {
	return post[api.JoinAnswer](ctx, c, "/v1/jumps", q)
}

// OpenSession asks whether a connection may become a session; the answer's entry is proved.
func (c *Client) OpenSession(ctx context.Context, q *api.SessionAsk) (*api.SessionAnswer, error) {
	a, err := post[api.SessionAnswer](ctx, c, "/v1/sessions", q)
	if err != nil {
		return nil, err
	}
	if _, err := c.CheckEntry(ctx, a.Entry, a.Entry.Checkpoint); err != nil {
		return nil, err
	}
	return a, nil
}

func (c *Client) SendFacts(ctx context.Context, q *api.FactsAsk) (*api.FactsAnswer, error) {
	return post[api.FactsAnswer](ctx, c, "/v1/facts", q)
}

func (c *Client) HostCerts(ctx context.Context, q *api.HostCertsAsk) (*api.HostCertsAnswer, error) {
	return post[api.HostCertsAnswer](ctx, c, "/v1/hostcerts", q)
}

func transcriptPath(s name.SessionID) string { return "/v1/transcripts/" + segment(s.File()) }

func (c *Client) TranscriptSize(ctx context.Context, s name.SessionID) (*api.Size, error) {
	return get[api.Size](ctx, c, transcriptPath(s)+"/size")
}

func (c *Client) PutTranscript(ctx context.Context, s name.SessionID, offset int64, piece []byte) (*api.Size, error) {
	out := new(api.Size)
	if err := c.call(ctx, http.MethodPut, fmt.Sprintf("%s?offset=%d", transcriptPath(s), offset), piece, out); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Client) PutEnvelope(ctx context.Context, s name.SessionID, envelope []byte) error {
	return c.call(ctx, http.MethodPut, transcriptPath(s)+"/envelope", envelope, nil)
}

func (c *Client) FinishTranscript(ctx context.Context, s name.SessionID, q *api.FinishAsk) error {
	return c.call(ctx, http.MethodPost, transcriptPath(s)+"/finish", q, nil)
}

// Transcript streams a sealed recording; the caller closes it.
func (c *Client) Transcript(ctx context.Context, s name.SessionID) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, transcriptPath(s), nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Envelope has the CA record the reading and then hand out the envelope.
func (c *Client) Envelope(ctx context.Context, s name.SessionID, q api.ReadAsk) ([]byte, error) {
	var out []byte
	err := c.call(ctx, http.MethodPost, transcriptPath(s)+"/envelope", q, &out)
	return out, err
}

func (c *Client) Evidence(ctx context.Context, id name.RequestID) (*api.Evidence, error) {
	return get[api.Evidence](ctx, c, "/v1/evidence/"+segment(string(id)))
}

// Checkpoint gives the newest signed head, checked against the one seen before.
func (c *Client) Checkpoint(ctx context.Context) (string, error) {
	var out []byte
	if err := c.call(ctx, http.MethodGet, "/v1/checkpoint", nil, &out); err != nil {
		return "", err
	}
	_, err := c.CheckCheckpoint(ctx, string(out))
	return string(out), err
}

func (c *Client) consistency(ctx context.Context, from, to int64) ([]statement.Hash, error) {
	p, err := get[api.ConsistencyProof](ctx, c, fmt.Sprintf("/v1/proof/consistency?from=%d&to=%d", from, to))
	if err != nil {
		return nil, err
	}
	return p.Proof, nil
}

// Entry gives one entry, proved.
func (c *Client) Entry(ctx context.Context, n int64) (*api.ProvenEntry, error) {
	e, err := get[api.ProvenEntry](ctx, c, fmt.Sprintf("/v1/entries/%d", n))
	if err != nil {
		return nil, err
	}
	_, err = c.CheckEntry(ctx, *e, e.Checkpoint)
	return e, err
}
