//! MQTT in, signed packs out to the server.
