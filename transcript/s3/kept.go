package s3

import (
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"breakglass/internal/name"
)

// CheckKept holds the locks on all objects of a whole recording against what was asked for it when its session was opened: each is retained in COMPLIANCE for as
// long, and under legal hold if that was wanted. One that isn't is ErrLock.
func (s *Store) CheckKept(id name.SessionID, opened time.Time, k Keep) error {
	ref, err := s.whole(id)
	if err != nil {
		return err
	}
	if ref == nil {
		return fmt.Errorf("%s: the ledger names no manifest of it", id)
	}
	m, err := s.manifest(id, ref)
	if err != nil {
		return err
	}
	env := "e/" + id.File()
	first, err := s.versions(env)
	if err != nil {
		return err
	}
	want := opened.Add(k.For).Truncate(time.Second) // of which services keep no parts
	all := append([]object{{Key: ref.Key, Version: ref.Version}, {Key: env, Version: first[env]}}, m.Objects...)
	for _, o := range all {
		ctx, cancel := call()
		out, err := s.s3.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &s.cfg.Bucket, Key: &o.Key, VersionId: &o.Version})
		cancel()
		if status(err) == http.StatusNotFound {
			return fmt.Errorf("%w: %s version %s is gone", ErrDamaged, o.Key, o.Version)
		}
		if err != nil {
			return fmt.Errorf("asking for %s: %w", o.Key, err)
		}
		until := aws.ToTime(out.ObjectLockRetainUntilDate)
		switch {
		case out.ObjectLockMode != types.ObjectLockModeCompliance:
			return fmt.Errorf("%w: %s is retained in mode %q, not COMPLIANCE", ErrLock, o.Key, out.ObjectLockMode)
		case until.Before(want):
			return fmt.Errorf("%w: %s is retained until %s, the policy wanted %s", ErrLock, o.Key, until.UTC().Format(time.RFC3339), want.UTC().Format(time.RFC3339))
		case k.Hold && out.ObjectLockLegalHoldStatus != types.ObjectLockLegalHoldStatusOn:
			return fmt.Errorf("%w: %s is under no legal hold", ErrLock, o.Key)
		}
	}
	return nil
}
