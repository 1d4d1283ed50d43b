"""What of a voice can be exported, and in what precision."""

from typing import Literal

Part = Literal["student", "stream", "teacher"]
Precision = Literal["float32", "float16", "int8"]
