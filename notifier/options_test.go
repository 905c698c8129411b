package notifier

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestPublisherOptions_validate_names_every_wrong_field(t *testing.T) {
	t.Parallel()
	if err := (PublisherOptions{}).Validate(); err != nil {
		t.Fatalf("the zero value: %v", err)
	}
	err := PublisherOptions{
		Namespace: "a b", ChannelPrefix: strings.Repeat("x", 300), LogLength: 1, SnapshotTasks: -1, Retention: time.Millisecond, Buffer: 1,
		MaxDataBytes: 2 << 20, Concurrency: 1000, Timeout: -1, DrainTimeout: -1,
	}.Validate()
	names(t, err, "PublisherOptions", "namespace", "channel prefix", "LogLength", "SnapshotTasks", "Retention", "Buffer", "MaxDataBytes",
		"Concurrency", "Timeout", "DrainTimeout")
}

func TestSubscriberOptions_validate_names_every_wrong_field(t *testing.T) {
	t.Parallel()
	if err := (SubscriberOptions{}).Validate(); err != nil {
		t.Fatalf("the zero value: %v", err)
	}
	err := SubscriberOptions{
		ChannelPrefix: "a*", Buffer: -1, CheckEvery: time.Microsecond, ProbeEvery: time.Millisecond, ConnectTimeout: -1, Timeout: -1,
	}.Validate()
	names(t, err, "SubscriberOptions", "channel prefix", "Buffer", "CheckEvery", "ProbeEvery", "ConnectTimeout", "Timeout")
}

func TestNew_refuses_bad_options_without_network(t *testing.T) {
	t.Parallel()
	if _, err := NewPublisher(nil, PublisherOptions{}); !errors.Is(err, ErrInvalidOptions) {
		t.Errorf("publisher without client: %v", err)
	}
	if _, err := NewSubscriber(nil, SubscriberOptions{}); !errors.Is(err, ErrInvalidOptions) {
		t.Errorf("subscriber without client: %v", err)
	}
	if _, err := NewPublisher(nil, PublisherOptions{LogLength: 1}); err == nil || !strings.Contains(err.Error(), "LogLength") {
		t.Errorf("publisher with a bad option: %v", err)
	}
	if _, err := NewSubscriber(nil, SubscriberOptions{Buffer: -1}); err == nil || !strings.Contains(err.Error(), "Buffer") {
		t.Errorf("subscriber with a bad option: %v", err)
	}
}

func names(t *testing.T, err error, fields ...string) {
	t.Helper()
	if !errors.Is(err, ErrInvalidOptions) {
		t.Fatalf("got error %v", err)
	}
	for _, field := range fields {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("the error does not name %s: %v", field, err)
		}
	}
}
