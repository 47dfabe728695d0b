package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// checkRetention is how long the object stays on which Check tried.
const checkRetention = time.Hour

// Check proves on an object of its own that what is retained in the bucket can't be deleted, changed or shortened with these credentials, by trying it. It gives a line for each
// thing that was tried. An error that is ErrLock says what the bucket let through; any other that it couldn't be tried.
func (s *Store) Check(ctx context.Context) (tried []string, err error) {
	ok := func(format string, a ...any) { tried = append(tried, fmt.Sprintf(format, a...)) }
	lock := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrLock, fmt.Sprintf(format, a...))
	}
	v, err := s.s3.GetBucketVersioning(ctx, &awss3.GetBucketVersioningInput{Bucket: &s.cfg.Bucket})
	if err != nil {
		return nil, fmt.Errorf("asking for the bucket's versioning: %w", err)
	}
	if v.Status != types.BucketVersioningStatusEnabled {
		return nil, lock("versioning is %q", v.Status)
	}
	l, err := s.s3.GetObjectLockConfiguration(ctx, &awss3.GetObjectLockConfigurationInput{Bucket: &s.cfg.Bucket})
	if err != nil && !refused(err) {
		return nil, fmt.Errorf("asking for the bucket's lock: %w", err)
	}
	if err != nil || l.ObjectLockConfiguration == nil || l.ObjectLockConfiguration.ObjectLockEnabled != types.ObjectLockEnabledEnabled {
		return nil, lock("Object Lock is not enabled")
	}
	ok("versioning and Object Lock are enabled")

	var r [8]byte
	rand.Read(r[:])
	key, body := "check/"+hex.EncodeToString(r[:]), []byte("what is retained can't be deleted: "+hex.EncodeToString(r[:]))
	o, exists, err := s.put(key, body, Keep{For: checkRetention})
	if err != nil {
		return tried, err
	}
	if exists {
		return tried, fmt.Errorf("putting %s: it is there already", key)
	}
	kept := func(what string) error {
		b, err := s.get(key, o.Version, o.SHA256, int64(len(body)))
		if err == nil && !bytes.Equal(b, body) {
			err = ErrDamaged
		}
		if errors.Is(err, ErrDamaged) {
			return lock("after %s the object is gone or another", what)
		}
		return err
	}
	if err := kept("the PUT"); err != nil {
		return tried, err
	}
	bucket, version, now := &s.cfg.Bucket, &o.Version, s.cfg.Now()
	for _, t := range []struct {
		what string
		do   func() error
	}{
		{"deleting the version", func() error {
			_, err := s.s3.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: bucket, Key: &key, VersionId: version})
			return err
		}},
		{"deleting it past governance", func() error {
			_, err := s.s3.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: bucket, Key: &key, VersionId: version, BypassGovernanceRetention: aws.Bool(true)})
			return err
		}},
		{"shortening its retention", func() error {
			_, err := s.s3.PutObjectRetention(ctx, &awss3.PutObjectRetentionInput{Bucket: bucket, Key: &key, VersionId: version, BypassGovernanceRetention: aws.Bool(true),
				Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeCompliance, RetainUntilDate: aws.Time(now.Add(checkRetention / 2))}})
			return err
		}},
		{"making it governance", func() error {
			_, err := s.s3.PutObjectRetention(ctx, &awss3.PutObjectRetentionInput{Bucket: bucket, Key: &key, VersionId: version, BypassGovernanceRetention: aws.Bool(true),
				Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: aws.Time(now.Add(2 * checkRetention))}})
			return err
		}},
		{"putting another under its key with If-None-Match", func() error {
			_, err := s.s3.PutObject(ctx, &awss3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader([]byte("other")), IfNoneMatch: aws.String("*")})
			return err
		}},
		{"suspending the bucket's versioning", func() error {
			_, err := s.s3.PutBucketVersioning(ctx, &awss3.PutBucketVersioningInput{Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended}})
			return err
		}},
	} {
		err := t.do()
		switch {
		case err == nil:
			// Nothing but versioning could be put back.
			s.s3.PutBucketVersioning(ctx, &awss3.PutBucketVersioningInput{Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
			return tried, lock("%s went through", t.what)
		case !refused(err):
			return tried, fmt.Errorf("%s: %w", t.what, err)
		}
		if err := kept(t.what); err != nil {
			return tried, err
		}
		ok("%s: refused (%d)", t.what, status(err))
	}
	// These may go through, and must change nothing of the version.
	for _, t := range []struct {
		what string
		do   func() error
	}{
		{"a new version over it", func() error {
			_, err := s.s3.PutObject(ctx, &awss3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader([]byte("other"))})
			return err
		}},
		{"a delete marker over it", func() error {
			_, err := s.s3.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: bucket, Key: &key})
			return err
		}},
	} {
		if err := t.do(); err != nil && !refused(err) {
			return tried, fmt.Errorf("%s: %w", t.what, err)
		}
		if err := kept(t.what); err != nil {
			return tried, err
		}
		ok("%s: the version is read as it was", t.what)
	}
	first, err := s.versions(key)
	if err != nil {
		return tried, err
	}
	if first[key] != o.Version {
		return tried, lock("the list of versions does not begin with the first")
	}
	ok("the version that was first is listed as the first")
	return tried, nil
}

// Reached says whether the bucket answers at all.
func (s *Store) Reached(ctx context.Context) error {
	_, err := s.s3.HeadBucket(ctx, &awss3.HeadBucketInput{Bucket: &s.cfg.Bucket})
	if status(err) == http.StatusNotFound {
		return fmt.Errorf("there is no bucket %q", s.cfg.Bucket)
	}
	return err
}
