package state

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// TestLiveWalksNoTable: what every decision asks is answered from indexes, however many requests there have been.
func TestLiveWalksNoTable(t *testing.T) {
	s, _ := openAt(t, t.TempDir())
	defer s.Close()
	for what, q := range map[string]struct {
		query string
		args  []any
		index []string
	}{
		"places": {livePlaces, []any{1, "", "alice"}, []string{"INDEX requests_live", "PRIMARY KEY (person="}},
		"all":    {liveAll, []any{1, "", "alice", 3}, []string{"INDEX requests_live", "PRIMARY KEY (person="}},
		"rule":   {liveOn, []any{1, "", "r", 3}, []string{"INDEX requests_rule (rule=? AND until>?)"}},
	} {
		rows, err := s.read.Query(`EXPLAIN QUERY PLAN `+q.query, q.args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan strings.Builder
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&plan, detail)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		for _, want := range q.index {
			if !strings.Contains(plan.String(), want) {
				t.Errorf("%s: no %s:\n%s", what, want, plan.String())
			}
		}
		for line := range strings.Lines(plan.String()) {
			if strings.HasPrefix(line, "SCAN ") && !strings.HasPrefix(line, "SCAN (subquery") && !strings.Contains(line, "CONSTANT ROW") {
				t.Errorf("%s walks a table:\n%s", what, plan.String())
			}
		}
	}
}

// TestLive: which grants of a person are alive, one of a place or all, and how many on a rule.
func TestLive(t *testing.T) {
	l := ledgertest.New(t)
	alice, bob := l.Enrol("alice"), l.Enrol("bob")
	first := l.Grant(alice, nil)
	l.Now = l.Now.Add(time.Second)
	second := l.Grant(alice, nil)
	waits := l.Wait(alice, 1, []name.Person{"bob"}, nil) // is not allowed
	others := l.Grant(bob, nil)
	s, _ := openAt(t, t.TempDir())
	defer s.Close()
	add := func() {
		t.Helper()
		if err := s.Do(context.Background(), func(tx *Tx) error {
			for _, e := range l.Entries[tx.Size():] {
				d, err := ledger.Decode(e)
				if err != nil {
					return err
				}
				if _, _, err := tx.Append(d); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	add()
	var rule name.Rule
	want := func(what string, p name.Person, except name.RequestID, at time.Time, limit int, ids ...name.RequestID) {
		t.Helper()
		if err := s.View(context.Background(), func(tx *Tx) error {
			got, err := tx.LiveOf(p, except, at, limit)
			var list []name.RequestID
			for _, g := range got {
				list, rule = append(list, g.ID), g.Rule
				if len(g.Addresses) == 0 || g.Addresses[0].Address == "" || g.Rule == "" {
					t.Errorf("%s: %+v", what, g)
				}
			}
			if fmt.Sprint(list) != fmt.Sprint(ids) {
				t.Errorf("%s: %v, want %v", what, list, ids)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	count := func(what string, except name.RequestID, at time.Time, limit, n int) {
		t.Helper()
		if err := s.View(context.Background(), func(tx *Tx) error {
			got, err := tx.LiveOn(rule, except, at, limit)
			if got != n {
				t.Errorf("%s: %d on %s, want %d", what, got, rule, n)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	a, b, o := first.Subject.Request, second.Subject.Request, others.Subject.Request
	now := l.Now
	want("all of alice's, the one that ends first before the others", "alice", "", now, 9, a, b)
	want("but for one", "alice", a, now, 9, b)
	want("no more than asked for", "alice", "", now, 1, a)
	want("one of each place: the one that ends last", "alice", "", now, 0, b)
	want("and if that is the excepted one, another of the place", "alice", b, now, 0, a)
	want("bob's", "bob", "", now, 0, o)
	want("nobody's", "carol", "", now, 9)
	want("all are over", "alice", "", now.Add(24*time.Hour), 9)
	count("anybody's", "", now, 9, 3)
	count("but for one", o, now, 9, 2)
	count("no more than asked for", "", now, 2, 2)
	count("all are over", "", now.Add(24*time.Hour), 9, 0)
	l.Approve(bob, waits, statement.Approve, nil)
	l.Allow(waits, []name.Person{"bob"}, 0)
	l.Stop(second, ledgertest.Stopped{How: ledger.RevokedByEnd, By: "alice"})
	add()
	w := waits.Subject.Request
	want("what was ended is not alive, what was approved is", "alice", "", now, 9, a, w)
	count("on the rule, too", "", now, 9, 3)
	if err := s.Rebuild(); err != nil {
		t.Fatal(err)
	}
	want("also after a rebuild", "alice", "", now, 9, a, w)
}
