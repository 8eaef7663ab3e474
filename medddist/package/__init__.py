"""A distilled set as a file that can be sent: written, verified, opened, trained on."""

from medddist.package.reading import Package, open_package
from medddist.package.writing import write_package

__all__ = ["Package", "open_package", "write_package"]
