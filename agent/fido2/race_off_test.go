//go:build !race

package fido2

const raceEnabled = false
