"""Checks of any file of the HDF5 contract, whoever wrote it: `validate` says what is wrong, where, and by how much."""

from finepose_mp.validation.file import validate
from finepose_mp.validation.findings import Finding, Report
from finepose_mp.validation.isolated import validate_isolated

__all__ = ["Finding", "Report", "validate", "validate_isolated"]
