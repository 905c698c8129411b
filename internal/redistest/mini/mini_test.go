package mini

import "testing"

func TestStart_gives_a_server_that_starts_again_where_it_was(t *testing.T) {
	t.Parallel()
	server := Start(t)
	before := server.Addr()
	server.Close()
	Restart(t, server)
	if after := server.Addr(); after != before {
		t.Errorf("it moved from %s to %s", before, after)
	}
}
