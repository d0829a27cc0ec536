"""Values to bytes and back: MessagePack, which is the default, JSON, and codecs of one's own."""

from aiozpat.codec.annotations import bare
from aiozpat.codec.foreign import JSON, Codec, ForeignDecoder, ForeignItemDecoder, Values
from aiozpat.codec.hooks import restored
from aiozpat.codec.msgpack import (
    BUFFER_TYPES,
    ENCODE_ERRORS,
    MIXED_LIMIT,
    TYPE_ERRORS,
    Decoder,
    ItemDecoder,
    Raw,
    apart,
    described,
    extract,
    is_large,
    loosening,
    only_param,
    pack,
    pack_rich,
    refuse_extension,
)
from aiozpat.codec.schemas import schema_of

__all__ = [
    "BUFFER_TYPES",
    "ENCODE_ERRORS",
    "JSON",
    "MIXED_LIMIT",
    "TYPE_ERRORS",
    "Codec",
    "Decoder",
    "ForeignDecoder",
    "ForeignItemDecoder",
    "ItemDecoder",
    "Raw",
    "Values",
    "apart",
    "bare",
    "described",
    "extract",
    "is_large",
    "loosening",
    "only_param",
    "pack",
    "pack_rich",
    "refuse_extension",
    "restored",
    "schema_of",
]
