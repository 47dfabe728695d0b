package home

import (
	"fmt"
	"os"
	"strings"
	"time"

	"breakglass/internal/durable"
)

// SaveRenewBy keeps when the person's keys have to have been renewed, as the CA last said: to warn of it without asking.
func (h Home) SaveRenewBy(t time.Time) error {
	if err := h.MakeConfig(); err != nil {
		return err
	}
	if err := durable.WriteFile(h.Path("renew-by"), []byte(t.UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing when to renew: %w", err)
	}
	return nil
}

// RenewBy gives it; the zero time if this machine was never told.
func (h Home) RenewBy() time.Time {
	b, err := os.ReadFile(h.Path("renew-by"))
	if err != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	if err != nil { // it only warns
		return time.Time{}
	}
	return t
}
