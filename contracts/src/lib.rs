//! TraceLog contract bindings and the EVM JSON-RPC client.
