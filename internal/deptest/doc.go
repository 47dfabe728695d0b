// Package deptest holds no code: its test keeps the walls between the houses (which package may import which) and keeps
// what must not be linked out of the programs that are shipped.
package deptest
