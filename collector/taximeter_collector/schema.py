"""Protobuf messages made from a table, where a generated module would bring more than is wanted."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

BYTES, MESSAGE, STRING, FIXED64, DOUBLE, INT64, ENUM = 12, 11, 9, 6, 1, 3, 5
ONE, MANY = 1, 3

#: message -> field -> (number, type, label, message type)
Schema = dict[str, dict[str, tuple[int, int, int, str]]]


def messages(package: str, schema: Schema) -> dict[str, Any]:
    """The classes of a schema, by name; a message type is named after it stands in the table."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in schema.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, label, target) in fields.items():
            added = message.field.add(name=field, number=number, label=label, type=kind)
            if target:
                added.type_name = f".{package}.{target}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in schema
    }
