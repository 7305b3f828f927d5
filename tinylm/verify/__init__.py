"""Checks of gradients: against finite differences, against PyTorch where it is installed, and against files."""

from tinylm.verify.finite_differences import gradcheck as gradcheck
from tinylm.verify.gradient_files import compare_gradients as compare_gradients
from tinylm.verify.gradient_files import save_gradients as save_gradients
from tinylm.verify.module_checks import check_module as check_module
from tinylm.verify.op_parity import compare_op as compare_op
from tinylm.verify.parity import compare as compare
from tinylm.verify.reports import Report as Report
from tinylm.verify.samples import Sample as Sample
from tinylm.verify.samples import samples_of as samples_of
from tinylm.verify.training_drift import drift as drift
