package client

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// Watch has the CA record that the caller begins to watch a running session, and hand out what it takes. The entry that opened the session is proved.
func (c *Client) Watch(ctx context.Context, s name.SessionID, q api.WatchAsk) (*api.Watching, *ledger.Entry, error) {
	w, err := post[api.Watching](ctx, c, transcriptPath(s)+"/watch", q)
	if err != nil {
		return nil, nil, err
	}
	e, err := c.CheckEntry(ctx, w.Opened, w.Opened.Checkpoint)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := e.Facts.(*ledger.SessionOpened); !ok || e.Subject.Session != s || w.Session != s {
		return nil, nil, fmt.Errorf("%w: entry %d did not open %s", ErrProof, w.Opened.Index, s)
	}
	return w, e, nil
}

// WatchNews waits for what is new behind an offset of the stream and behind an entry. Entries are proved, and decoded by the caller.
func (c *Client) WatchNews(ctx context.Context, w *api.Watching, offset, entry int64, wait time.Duration) (*api.WatchNews, []*ledger.Entry, error) {
	n, err := get[api.WatchNews](ctx, c, fmt.Sprintf("%s/watch?id=%s&offset=%d&entry=%d&wait=%d", transcriptPath(w.Session), url.QueryEscape(w.ID), offset, entry, int(wait.Seconds())))
	if err != nil {
		return nil, nil, err
	}
	if n.Offset != offset || n.Entry < entry {
		return nil, nil, fmt.Errorf("%w: news from %d and entry %d, asked for %d and %d", ErrAnswer, n.Offset, n.Entry, offset, entry)
	}
	var out []*ledger.Entry
	last := entry
	for _, p := range n.Entries {
		e, err := c.CheckEntry(ctx, p, n.Checkpoint)
		if err != nil {
			return nil, nil, err
		}
		if p.Index <= last || p.Index > n.Entry || e.Subject.Session != w.Session {
			return nil, nil, fmt.Errorf("%w: entry %d after entry %d of %s", ErrProof, p.Index, last, w.Session)
		}
		last = p.Index
		out = append(out, e)
	}
	return n, out, nil
}

// EndWatch says that a watching is over.
func (c *Client) EndWatch(ctx context.Context, w *api.Watching) error {
	return c.call(ctx, "POST", transcriptPath(w.Session)+"/watch/end", api.WatchEnd{ID: w.ID}, nil)
}
