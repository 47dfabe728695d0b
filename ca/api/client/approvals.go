package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/name"
)

// SignRequest answers a request's challenge. A request that needs approvals is the error *api.Waiting: nothing is granted yet.
func (c *Client) SignRequest(ctx context.Context, id string, s api.Signed) (*api.Granted, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.send(ctx, http.MethodPost, "/v1/requests/"+segment(id)+"/signature", s)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	d.DisallowUnknownFields()
	if resp.StatusCode == http.StatusAccepted {
		w := new(api.Waiting)
		if err := d.Decode(w); err != nil {
			return nil, fmt.Errorf("%w: signing a request: %w", ErrAnswer, err)
		}
		return nil, w
	}
	g := new(api.Granted)
	if err := d.Decode(g); err != nil {
		return nil, fmt.Errorf("%w: signing a request: %w", ErrAnswer, err)
	}
	return g, nil
}

// AwaitRequest reads a request's state once it is another than the version that the caller knows, or after wait (at most api.MaxWait).
func (c *Client) AwaitRequest(ctx context.Context, id name.RequestID, wait time.Duration, since int64) (*api.RequestState, error) {
	return get[api.RequestState](ctx, c, fmt.Sprintf("/v1/requests/%s?wait=%d&since=%d", segment(string(id)), int(min(wait, api.MaxWait).Seconds()), since))
}

// Requests lists the requests that wait for approvals.
func (c *Client) Requests(ctx context.Context) ([]api.RequestState, error) {
	l, err := get[api.RequestList](ctx, c, "/v1/requests")
	if err != nil {
		return nil, err
	}
	return l.Requests, nil
}

func (c *Client) Approve(ctx context.Context, q api.ApprovalAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/approvals", q)
}

func (c *Client) SignApproval(ctx context.Context, id string, s api.Signed) (*api.ApprovalState, error) {
	return post[api.ApprovalState](ctx, c, "/v1/approvals/"+segment(id)+"/signature", s)
}

// NotGranted gives what a signed request waits for, if that is what err says.
func NotGranted(err error) (*api.Waiting, bool) {
	w := new(api.Waiting)
	ok := errors.As(err, &w)
	return w, ok
}
