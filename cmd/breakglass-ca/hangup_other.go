//go:build !unix

package main

import (
	"context"
	"log/slog"

	"breakglass/ca"
)

// reloadOnHangup does nothing where there is no such signal.
func reloadOnHangup(context.Context, *ca.CA, *slog.Logger) (stop func()) { return func() {} }
