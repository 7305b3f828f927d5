"""Checks of gradients: against finite differences, and against PyTorch where it is installed."""

from tinylm.verify.finite_differences import gradcheck as gradcheck
from tinylm.verify.parity import compare as compare
from tinylm.verify.parity import compare_op as compare_op
from tinylm.verify.reports import Report as Report
from tinylm.verify.samples import Sample as Sample
from tinylm.verify.samples import samples_of as samples_of
