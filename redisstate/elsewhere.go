package redisstate

// At gives the options for another server: o with the URL, without a Client, and
// with the name of the Sentinel master that the URL says. Username and Password
// stay unless the URL has its own; those in o's URL belong to that one. It is for
// the masters of locks, which are several.
func (o Options) At(url string) Options {
	t, err := parseURL(url) // a bad URL is Validate's to report
	if err == nil && t.userinfo {
		o.Username, o.Password = "", ""
	}
	o.URL, o.Client, o.SentinelMaster = url, nil, ""
	return o
}
