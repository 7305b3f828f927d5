"""Old names and where they are now: whoever uses one gets an error that says so."""

import sys
from typing import Any

MOVED = {
    "tinylm.anomalies": "tinylm.engine.anomalies",
    "tinylm.autograd": "tinylm.engine.autograd and tinylm.engine.grad; grad is also tinylm.grad",
    "tinylm.backend": "tinylm.engine.arrays, array_functions, devices and ids; array_module is also tinylm.array_module",
    "tinylm.checkpoint": "tinylm.recompute",
    "tinylm.checkpointing": "tinylm.engine.recompute",
    "tinylm.cuda_probe": "tinylm.engine.cuda_probe",
    "tinylm.dispatch": "tinylm.engine.op",
    "tinylm.formats": "tinylm.pretrained, and formats.files is tinylm.files.json_files",
    "tinylm.kernel_registry": "tinylm.engine.kernels",
    "tinylm.models.gguf_models": "tinylm.pretrained.gguf_models",
    "tinylm.models.hugging_face": "tinylm.pretrained.hugging_face",
    "tinylm.models.pretrained": "tinylm.pretrained.loading",
    "tinylm.models.stored_weights": "tinylm.pretrained.stored_weights",
    "tinylm.nn.attentions": "tinylm.nn.attention",
    "tinylm.nn.dropout_layer": "tinylm.nn.dropout",
    "tinylm.nn.embeddings": "tinylm.nn.embedding",
    "tinylm.nn.linear_layers": "tinylm.nn.linear",
    "tinylm.nn.low_rank": "tinylm.nn.lora",
    "tinylm.nn.norms": "tinylm.nn.normalization",
    "tinylm.nn.positions": "tinylm.nn.positional_encoding",
    "tinylm.nn.recurrents": "tinylm.nn.recurrent",
    "tinylm.nn.transformers": "tinylm.nn.transformer",
    "tinylm.ops.lookups": "tinylm.ops.indexing",
    "tinylm.ops.normalizations": "tinylm.ops.normalization",
    "tinylm.ops.positions": "tinylm.ops.rotary",
    "tinylm.ops.probabilities": "tinylm.ops.softmax and tinylm.ops.losses",
    "tinylm.ops.products": "tinylm.ops.linear",
    "tinylm.ops.projections": "tinylm.ops.joint_linear",
    "tinylm.ops.randomness": "tinylm.ops.dropout",
    "tinylm.ops.recurrence": "tinylm.ops.recurrent",
    "tinylm.profiler": "tinylm.engine.profiler",
    "tinylm.random_streams": "tinylm.engine.random_keys",
    "tinylm.rotary_angles": "tinylm.ops.rotary_angles",
    "tinylm.tensor": "tinylm.engine.tensor",
    "tinylm.train.classification": "tinylm.train.tasks.classification",
    "tinylm.train.classifier_config": "tinylm.train.tasks.classifier_config",
    "tinylm.train.classifier_run": "tinylm.train.tasks.classifier_run",
    "tinylm.train.config": "tinylm.train.tasks.language_model_config",
    "tinylm.train.copying": "tinylm.studies.copying",
    "tinylm.train.dynamic_evaluation": "tinylm.studies.dynamic_evaluation",
    "tinylm.train.estimates": "tinylm.studies.estimates",
    "tinylm.train.latent_semantics": "tinylm.train.tasks.latent_semantics",
    "tinylm.train.memory": "tinylm.studies.memory",
    "tinylm.train.mixing": "tinylm.studies.mixing",
    "tinylm.train.scaling_laws": "tinylm.studies.scaling_laws",
    "tinylm.train.scaling_runs": "tinylm.studies.scaling_runs",
    "tinylm.train.sizes": "tinylm.studies.sizes",
    "tinylm.train.translation": "tinylm.train.tasks.translation",
    "tinylm.train.translation_config": "tinylm.train.tasks.translation_config",
    "tinylm.verify.causes": "tinylm.verify.diagnosis.causes",
    "tinylm.verify.detached_terms": "tinylm.verify.diagnosis.detached_terms",
    "tinylm.verify.evidence": "tinylm.verify.diagnosis.evidence",
    "tinylm.verify.graphs": "tinylm.engine.autograd (nodes)",
    "tinylm.verify.hugging_face_twins": "tinylm.verify.torch.hugging_face_twins",
    "tinylm.verify.torch_classifiers": "tinylm.verify.torch.classifiers",
    "tinylm.verify.torch_models": "tinylm.verify.torch.models",
    "tinylm.verify.torch_optimizers": "tinylm.verify.torch.optimizers",
    "tinylm.verify.torch_reference": "tinylm.verify.torch.reference",
    "tinylm.verify.torch_training": "tinylm.verify.torch.training",
    "tinylm.verify.wrong_ops": "tinylm.verify.diagnosis.wrong_ops",
    "tinylm.whole_files": "tinylm.files.atomic",
}


def absent(name: str) -> str:
    """Returns the line for a name in tinylm that does not exist: its new place if it has moved."""
    return f"tinylm.{name} is now {MOVED[f'tinylm.{name}']}" if f"tinylm.{name}" in MOVED else f"module 'tinylm' has no attribute {name!r}"


class MovedFinder:
    """Asked by Python for a module that no other finder has found."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raises ImportError for a module that has moved."""
        if name in MOVED:
            raise ImportError(f"{name} is now {MOVED[name]}", name=name)


sys.meta_path.append(MovedFinder)
