"""Data: readers, the schema that is saved with a model, named sets, and splits."""

from .fields import Array, Image
from .load import Data, load_data
from .named import DataSet, list_data
from .schema import Field, LabelField, Rows, Schema
from .table import Column, Table

__all__ = [
    "Array",
    "Column",
    "Data",
    "DataSet",
    "Field",
    "Image",
    "LabelField",
    "Rows",
    "Schema",
    "Table",
    "list_data",
    "load_data",
]
