package redisstate

import (
	"errors"
	"testing"
)

// A ref whose content was overwritten by somebody whom we cannot read is missing once that
// is no more: the Source can tell it then.
func TestStore_asks_the_Source_behind_what_it_cannot_read(t *testing.T) {
	t.Parallel()
	for name, overwrite := range map[string]func(v vault){
		"of a later release": func(v vault) {
			later := []byte(v.raw("id"))
			later[flagsAt] |= 0x80
			v.put("id", string(later))
		},
		"of another key": func(vault) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t)
			ref := v.set(v.open(Options{}), "id", 1)
			other := v.set(v.open(Options{Keys: mustRing(t, "b")}), "id", 2)
			overwrite(v)
			v.server.Del("temporal-redis:config:id@" + string(ref.Digest))
			s := v.open(Options{Keys: mustRing(t, "a")})
			if _, err := s.Get(t.Context(), ref.Key()); !errors.Is(err, ErrNotFound) {
				t.Errorf("the one before gives %v", err)
			}
			if found, err := s.GetMany(t.Context(), ref.Key()); len(found) != 0 || err != nil {
				t.Errorf("among many it gives %v, %v", found, err)
			}
			if _, err := s.Get(t.Context(), other.Key()); err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("the one that is there gives %v", err)
			}
		})
	}
}
