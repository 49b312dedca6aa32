//! Counters in Prometheus' text format. One closed list: no label takes a value from outside.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use trace::uplink::UplinkError;

macro_rules! counters {
    ($($field:ident $kind:literal $name:literal $help:literal;)+) => {
        /// Everything the gateway counts.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(pub $field: Counter,)+
            /// Payloads that could not be decoded, by reason.
            pub undecoded: Undecoded,
        }

        impl Metrics {
            /// Prometheus text exposition format 0.0.4.
            pub fn text(&self) -> String {
                let mut text = String::new();
                $(
                    // Writing to a String does not fail.
                    if writeln!(text, "# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}", $name, $help, $kind, self.$field.value()).is_err() {
                        return text;
                    }
                )+
                self.undecoded.write(&mut text);
                text
            }
        }
    };
}

/// One counter for each reason of [`UplinkError`]: the list is closed.
#[derive(Debug, Default)]
pub struct Undecoded([Counter; UplinkError::REASONS.len()]);

impl Undecoded {
    pub fn one(&self, reason: &str) {
        let found = UplinkError::REASONS.iter().zip(&self.0).find(|(word, _)| **word == reason);
        if let Some((_, counter)) = found {
            counter.one();
        }
    }

    fn write(&self, text: &mut String) {
        const NAME: &str = "suyuan_gateway_undecoded_total";
        text.push_str(
            "# HELP suyuan_gateway_undecoded_total Payloads that could not be decoded, by reason.\n",
        );
        text.push_str("# TYPE suyuan_gateway_undecoded_total counter\n");
        for (reason, counter) in UplinkError::REASONS.iter().zip(&self.0) {
            if writeln!(text, "{NAME}{{reason=\"{reason}\"}} {}", counter.value()).is_err() {
                return;
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn one(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn take(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    messages "counter" "suyuan_gateway_messages_total" "Messages taken from devices.";
    stored "counter" "suyuan_gateway_stored_total" "Items that the server stored.";
    duplicates "counter" "suyuan_gateway_duplicates_total" "Items that the server had already.";
    dead_letters "counter" "suyuan_gateway_dead_letters_total" "Items that the server keeps as dead letters.";
    signed "counter" "suyuan_gateway_signed_total" "Packs signed here for devices that cannot sign.";
    passed_on "counter" "suyuan_gateway_passed_on_total" "Payloads that could not be decoded and went on as they are.";
    oversized "counter" "suyuan_gateway_oversized_total" "Payloads over the limit.";
    unauthenticated "counter" "suyuan_gateway_unauthenticated_total" "Connections refused: unknown device or wrong token.";
    too_many_connections "counter" "suyuan_gateway_too_many_connections_total" "Connections refused: the device, or all together, have as many as they may (listen).";
    taken_over "counter" "suyuan_gateway_taken_over_total" "Sessions that ended because the same client identifier came again (listen).";
    paced "counter" "suyuan_gateway_paced_total" "Messages that waited because their device says more than it may (listen).";
    forbidden_topic "counter" "suyuan_gateway_forbidden_topic_total" "Publishes and subscriptions outside the device's own topics.";
    protocol_errors "counter" "suyuan_gateway_protocol_errors_total" "MQTT connections ended by a protocol error.";
    in_flight "gauge" "suyuan_gateway_in_flight" "Messages taken and not yet answered for by the server.";
    connections "gauge" "suyuan_gateway_connections" "Devices connected (listen).";
    posts "counter" "suyuan_gateway_posts_total" "Batches posted, retries included.";
    posts_failed "counter" "suyuan_gateway_posts_failed_total" "Posts that acknowledged nothing.";
    reconnects "counter" "suyuan_gateway_reconnects_total" "Connections to the broker that ended (subscribe).";
    stale_acks "counter" "suyuan_gateway_stale_acks_total" "Acknowledgements dropped because their connection had ended (subscribe).";
    replays "counter" "suyuan_gateway_replays_total" "Dead letters taken in again.";
    replay_errors "counter" "suyuan_gateway_replay_errors_total" "Looks for dead letters to take in again that failed.";
    receipts_dropped "counter" "suyuan_gateway_receipts_dropped_total" "Receipts not published because their queue was full.";
    sparkplug_missed "counter" "suyuan_gateway_sparkplug_missed_total" "Sparkplug messages that sequence numbers say are missing.";
    rebirths_asked "counter" "suyuan_gateway_sparkplug_rebirths_asked_total" "Sparkplug edge nodes asked for their births again.";
    register_errors "counter" "suyuan_gateway_register_errors_total" "Failed fetches of the register.";
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_text_names_every_counter_with_its_type() {
        let metrics = super::Metrics::default();
        metrics.messages.add(3);
        metrics.undecoded.one("no-birth");
        metrics.undecoded.one("a word of the sender's");
        let text = metrics.text();
        assert!(
            text.contains("# TYPE suyuan_gateway_messages_total counter\nsuyuan_gateway_messages_total 3\n")
        );
        assert!(text.contains("# TYPE suyuan_gateway_in_flight gauge\n"));
        assert!(text.contains("\nsuyuan_gateway_undecoded_total{reason=\"no-birth\"} 1\n"));
        assert!(!text.contains("sender"));
    }
}
