// Package geotest writes small MaxMind databases for tests. Any network can be listed, documentation and loopback
// ranges too. A file is written beside its place and renamed over it, as an operator should.
package geotest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// Country writes a GeoLite2-Country database: from prefix ("203.0.113.0/24") to country code.
func Country(path string, built time.Time, countries map[string]string) error {
	records := map[string]mmdbtype.DataType{}
	for prefix, code := range countries {
		records[prefix] = mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}}
	}
	return Write(path, "GeoLite2-Country", built, records)
}

// City writes a GeoLite2-City database: from prefix to "GB", or with its parts "GB ENG LND".
func City(path string, built time.Time, places map[string]string) error {
	records := map[string]mmdbtype.DataType{}
	for prefix, place := range places {
		words := strings.Fields(place)
		record := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(words[0])}}
		var parts mmdbtype.Slice
		for _, w := range words[1:] {
			parts = append(parts, mmdbtype.Map{"iso_code": mmdbtype.String(w)})
		}
		if len(parts) > 0 {
			record["subdivisions"] = parts
		}
		records[prefix] = record
	}
	return Write(path, "GeoLite2-City", built, records)
}

// ASN writes a GeoLite2-ASN database.
func ASN(path string, built time.Time, systems map[string]uint32) error {
	records := map[string]mmdbtype.DataType{}
	for prefix, n := range systems {
		records[prefix] = mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(n), "autonomous_system_organization": mmdbtype.String("Example Net")}
	}
	return Write(path, "GeoLite2-ASN", built, records)
}

// Anonymous writes a GeoIP2-Anonymous-IP database. Flags are of its fields: "is_anonymous_vpn", "is_tor_exit_node",
// "is_public_proxy", "is_residential_proxy", "is_hosting_provider", "is_anonymous".
func Anonymous(path string, built time.Time, flags map[string]string) error {
	records := map[string]mmdbtype.DataType{}
	for prefix, flag := range flags {
		records[prefix] = mmdbtype.Map{mmdbtype.String(flag): mmdbtype.Bool(true)}
	}
	return Write(path, "GeoIP2-Anonymous-IP", built, records)
}

// Write writes a database of any type, for IPv4 and IPv6.
func Write(path, kind string, built time.Time, records map[string]mmdbtype.DataType) error {
	return write(path, mmdbwriter.Options{DatabaseType: kind, BuildEpoch: built.Unix()}, records)
}

// WriteIPv4 writes a database that knows IPv4 only.
func WriteIPv4(path, kind string, built time.Time, records map[string]mmdbtype.DataType) error {
	return write(path, mmdbwriter.Options{DatabaseType: kind, BuildEpoch: built.Unix(), IPVersion: 4}, records)
}

func write(path string, options mmdbwriter.Options, records map[string]mmdbtype.DataType) error {
	options.IncludeReservedNetworks = true
	options.Description = map[string]string{"en": "made by a test"}
	tree, err := mmdbwriter.New(options)
	if err != nil {
		return err
	}
	for prefix, record := range records {
		_, network, err := net.ParseCIDR(prefix)
		if err != nil {
			return err
		}
		if err := tree.Insert(network, record); err != nil {
			return fmt.Errorf("inserting %s: %w", prefix, err)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".geotest-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := tree.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
