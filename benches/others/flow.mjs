// Writes Node-RED's settings and flow: mqtt in -> verify -> Postgres, as its users build it. It acknowledges on arrival: its
// mqtt node offers nothing else.
import { writeFileSync } from "node:fs";

const [directory, mqttPort, databaseUrl, keys, adminPort] = process.argv.slice(2);
const { username, hostname, pathname } = new URL(databaseUrl);
const verify = `
const [, , party, device] = msg.topic.split("/");
const [protectedHeader, , payload, signature] = cbor.decode(msg.payload);
const signed = cbor.encode(["Signature1", protectedHeader, Buffer.alloc(0), payload]);
const name = party + "/" + device;
if (!crypto.verify(null, signed, context.get("keys")[name], signature)) return null;
const number = (value) => (value?.tag === 4 ? Number(value.value[1]) * 10 ** Number(value.value[0]) : Number(value ?? 0));
let baseName = "", baseTime = 0;
const readings = cbor.decode(payload).map((record) => {
  baseName = record.get(-2) ?? baseName;
  baseTime = record.get(-3) ?? baseTime;
  return [name, number(baseTime) + number(record.get(6)), baseName + (record.get(0) ?? ""), number(record.get(2))];
});
const [reading] = readings;
msg.params = [name, signature, msg.payload, ...reading.slice(1)];
return msg;`;
const initialize = `
const spki = Buffer.from("302a300506032b6570032100", "hex");
const keys = {};
for (const [name, key] of Object.entries(JSON.parse(fs.readFileSync(${JSON.stringify(keys)}))))
  keys[name] = crypto.createPublicKey({ key: Buffer.concat([spki, Buffer.from(key, "hex")]), format: "der", type: "spki" });
context.set("keys", keys);`;
const query = `with new as (insert into others_pack (device, cti, bytes) values ($1, $2, $3) on conflict do nothing returning device)
insert into others_reading (device, at, name, value) select device, to_timestamp($4), $5, $6 from new`;
const flow = [
  { id: "tab", type: "tab", label: "packs" },
  { id: "broker", type: "mqtt-broker", broker: "127.0.0.1", port: mqttPort, clientid: "others-node-red",
    protocolVersion: "4", cleansession: true, autoConnect: true, keepalive: "60", autoUnsubscribe: false },
  { id: "in", type: "mqtt in", z: "tab", topic: "suyuan/v1/+/+/up", qos: "1", datatype: "buffer", broker: "broker",
    wires: [["verify"]] },
  { id: "verify", type: "function", z: "tab", func: verify, outputs: 1, initialize,
    libs: [{ var: "crypto", module: "crypto" }, { var: "fs", module: "fs" }, { var: "cbor", module: "cbor" }],
    wires: [["store"]] },
  { id: "database", type: "postgresDB", host: decodeURIComponent(hostname), hostFieldType: "str", port: "5432", portFieldType: "num",
    database: pathname.slice(1), databaseFieldType: "str", ssl: "false", sslFieldType: "bool", max: "10", maxFieldType: "num",
    min: "10", minFieldType: "num", idle: "1000", idleFieldType: "num", connectionTimeout: "10000",
    connectionTimeoutFieldType: "num", user: username, userFieldType: "str", password: "", passwordFieldType: "str" },
  { id: "store", type: "postgrestor", z: "tab", query, postgresDB: "database", throwErrors: true, output: true, outputs: 1,
    wires: [[]] },
];
writeFileSync(`${directory}/flows.json`, JSON.stringify(flow));
writeFileSync(
  `${directory}/settings.js`,
  `module.exports = { uiPort: ${adminPort}, uiHost: "127.0.0.1", flowFile: "flows.json", userDir: ${JSON.stringify(directory)},
  functionExternalModules: true, externalModules: { modules: { allowInstall: false } }, credentialSecret: false,
  logging: { console: { level: "info" } } };`,
);
