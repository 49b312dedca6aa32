//! Counters in Prometheus' text format. One closed list: no label takes a value from outside.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

macro_rules! counters {
    ($($field:ident $kind:literal $name:literal $help:literal;)+) => {
        /// Everything the gateway counts.
        #[derive(Debug, Default)]
        pub struct Metrics { $(pub $field: Counter),+ }

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
                text
            }
        }
    };
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
    forbidden_topic "counter" "suyuan_gateway_forbidden_topic_total" "Publishes and subscriptions outside the device's own topics.";
    protocol_errors "counter" "suyuan_gateway_protocol_errors_total" "MQTT connections ended by a protocol error.";
    in_flight "gauge" "suyuan_gateway_in_flight" "Messages taken and not yet answered for by the server.";
    connections "gauge" "suyuan_gateway_connections" "Devices connected (listen).";
    posts "counter" "suyuan_gateway_posts_total" "Batches posted, retries included.";
    posts_failed "counter" "suyuan_gateway_posts_failed_total" "Posts that acknowledged nothing.";
    reconnects "counter" "suyuan_gateway_reconnects_total" "Connections to the broker that ended (subscribe).";
    stale_acks "counter" "suyuan_gateway_stale_acks_total" "Acknowledgements dropped because their connection had ended (subscribe).";
    receipts_dropped "counter" "suyuan_gateway_receipts_dropped_total" "Receipts not published because their queue was full.";
    register_errors "counter" "suyuan_gateway_register_errors_total" "Failed fetches of the register.";
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_text_names_every_counter_with_its_type() {
        let metrics = super::Metrics::default();
        metrics.messages.add(3);
        let text = metrics.text();
        assert!(
            text.contains("# TYPE suyuan_gateway_messages_total counter\nsuyuan_gateway_messages_total 3\n")
        );
        assert!(text.contains("# TYPE suyuan_gateway_in_flight gauge\n"));
    }
}
