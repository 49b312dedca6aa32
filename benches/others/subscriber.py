"""What a careful engineer writes instead: paho-mqtt, psycopg, and the same promise.

Verifies each pack (RFC 9052 COSE_Sign1, Ed25519), stores pack and readings, refuses duplicates, and acknowledges what is
committed. One message a transaction, or with BATCH as many as have come within a few milliseconds.

Environment: MQTT_PORT, DATABASE_URL, KEYS (JSON: device -> public key in hex), BATCH.
"""

import json
import os
import queue

import cbor2
import paho.mqtt.client as mqtt
import psycopg
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BATCH = int(os.environ["BATCH"])
KEYS = {
    name: Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    for name, key in json.load(open(os.environ["KEYS"])).items()
}
arrived = queue.Queue(maxsize=4000)


def opened(topic, pack):
    """Device, counter and readings of a pack that its device signed."""
    device = "/".join(topic.split("/")[2:4])
    protected, _unprotected, payload, signature = cbor2.loads(pack)
    KEYS[device].verify(signature, cbor2.dumps(["Signature1", protected, b"", payload]))
    header = cbor2.loads(protected)
    base_name, base_time, readings = "", 0, []
    for record in cbor2.loads(payload):
        base_name, base_time = record.get(-2, base_name), record.get(-3, base_time)
        at = float(base_time) + float(record.get(6, 0))
        readings.append((device, at, base_name + record.get(0, ""), float(record[2])))
    return device, header.get(15, {}).get(7, signature), readings


def store(cursor, batch):
    packs, readings = [], []
    for message in batch:
        try:
            device, cti, found = opened(message.topic, message.payload)
        except (InvalidSignature, KeyError, ValueError, TypeError):
            continue
        packs.append((device, cti, message.payload))
        readings.append(found)
    cursor.executemany(
        "insert into others_pack (device, cti, bytes) values (%s, %s, %s) on conflict do nothing returning 1",
        packs,
        returning=True,
    )
    rows = []
    for found in readings:
        if cursor.fetchone():
            rows.extend(found)
        cursor.nextset()
    cursor.executemany(
        "insert into others_reading (device, at, name, value) values (%s, to_timestamp(%s), %s, %s)", rows
    )


def main():
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=f"others-{BATCH}", manual_ack=True
    )
    client.on_connect = lambda client, *_: client.subscribe("suyuan/v1/+/+/up", qos=1)
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_message = lambda _client, _data, message: arrived.put(message)
    client.connect("127.0.0.1", int(os.environ["MQTT_PORT"]))
    client.loop_start()
    with psycopg.connect(os.environ["DATABASE_URL"]) as database:
        while True:
            batch = [arrived.get()]
            while len(batch) < BATCH:
                try:
                    batch.append(arrived.get(timeout=0.002))
                except queue.Empty:
                    break
            with database.cursor() as cursor:
                store(cursor, batch)
            database.commit()
            for message in batch:
                client.ack(message.mid, message.qos)


main()
