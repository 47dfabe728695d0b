package bytesize

import "testing"

func TestParse(t *testing.T) {
	for _, c := range []struct {
		s string
		n int64
	}{
		{"1 MiB", 1 << 20}, {"512MiB", 512 << 20}, {"16 GiB", 16 << 30}, {"3 KiB", 3 << 10}, {"2 TiB", 2 << 40},
		{"", 0}, {"MiB", 0}, {"16", 0}, {"16 GB", 0}, {"16 gib", 0}, {"0 MiB", 0}, {"-1 MiB", 0}, {"+1 MiB", 0}, {"1.5 GiB", 0}, {"1  MiB", 0}, {" 1 MiB", 0},
		{"1 MiB ", 0}, {"9223372036854775807 KiB", 0}, {"0x10 MiB", 0}, {"1_0 MiB", 0},
	} {
		n, ok := Parse(c.s)
		if n != c.n || ok != (c.n > 0) {
			t.Errorf("%q: %d, %v, want %d", c.s, n, ok, c.n)
		}
	}
	for n, want := range map[int64]string{0: "0 bytes", 1: "1 bytes", 1 << 20: "1 MiB", 1536 << 20: "1536 MiB", 16 << 30: "16 GiB", 5<<30 + 1: "5368709121 bytes"} {
		if got := Text(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1 MiB", "16GiB", "-1 KiB", "9 TiB", "MiB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := Parse(s)
		if !ok {
			return
		}
		if again, ok := Parse(Text(n)); n <= 0 || !ok || again != n {
			t.Errorf("%q: %d, written %q, read %d", s, n, Text(n), again)
		}
	})
}
