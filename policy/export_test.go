package policy

// CheckBriefly is Check that plays no more than so many decisions through: what a fuzzer has time for.
func CheckBriefly(p *Policy, decisions int) []Finding {
	return (&checker{p: p, most: decisions}).run()
}
