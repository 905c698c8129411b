package locking

import (
	"strings"
	"testing"
	"time"
)

func TestAcquire_refuses_bad_input_before_any_call(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		resource string
		opts     []Option
		want     error
		text     string
	}{
		"no resource":                    {resource: "", want: ErrInvalidResource, text: "resource is empty"},
		"a long resource":                {resource: strings.Repeat("x", 2000), want: ErrInvalidResource, text: "use at most 1024"},
		"not UTF-8":                      {resource: "\xff", want: ErrInvalidResource, text: "UTF-8"},
		"a short TTL":                    {resource: "r", opts: []Option{WithTTL(999 * time.Millisecond)}, want: ErrInvalidOptions, text: "WithTTL(999ms); use at least 1s"},
		"a TTL longer than a quarantine": {resource: "r", opts: []Option{WithTTL(time.Hour)}, want: ErrInvalidOptions, text: "raise Options.Quarantine"},
		"a negative wait":                {resource: "r", opts: []Option{WithWait(-1)}, want: ErrInvalidOptions, text: "WithWait(-1ns)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := newFake()
			m := fakeManager(t, fake, Options{})
			m.longest = time.Minute
			_, err := m.Acquire(t.Context(), test.resource, test.opts...)
			wantErr(t, err, test.want)
			if !strings.HasPrefix(err.Error(), "locking: acquire: ") || !strings.Contains(err.Error(), test.text) {
				t.Fatal(err)
			}
			if fake.count("obtain") != 0 {
				t.Fatal("asked Redis")
			}
		})
	}
}

func TestOptions_are_refused_with_the_field_and_the_remedy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts Options
		want []string
	}{
		"short TTL":       {Options{TTL: 500 * time.Millisecond}, []string{"Options.TTL is 500ms; use at least 1s"}},
		"negative TTL":    {Options{TTL: -time.Second}, []string{"Options.TTL"}},
		"late renewal":    {Options{RenewEvery: 16 * time.Second}, []string{"Options.RenewEvery is 16s; use at least 10ms and at most half of TTL (15s)"}},
		"storm of them":   {Options{RenewEvery: 1}, []string{"Options.RenewEvery is 1ns; use at least 10ms"}},
		"negative wait":   {Options{Wait: -1}, []string{"Options.Wait"}},
		"bad namespace":   {Options{Namespace: "a{b"}, []string{"Options.Namespace"}},
		"several at once": {Options{TTL: 1, Wait: -1, Namespace: "*"}, []string{"Options.TTL", "Options.Wait", "Options.Namespace"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newManager(newFake(), systemClock, test.opts)
			wantErr(t, err, ErrInvalidOptions)
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
	_, err := New(nil, Options{})
	wantErr(t, err, ErrInvalidOptions)
}

func TestOptions_default_to_thirty_and_ten_seconds(t *testing.T) {
	t.Parallel()
	o := Options{}.withDefaults()
	if o.TTL != 30*time.Second || o.RenewEvery != 10*time.Second || o.Wait != 10*time.Second || o.Namespace != "temporal-redis" {
		t.Fatalf("%+v", o)
	}
	r, err := o.request([]Option{WithTTL(6 * time.Second), nil})
	if err != nil || r.renewEvery != 2*time.Second {
		t.Fatalf("%+v, %v", r, err)
	}
}
