"""A user's script, as a type checker reads it: tests/test_types.py plants four mistakes in it."""

import numpy as np

import tinylm
from tinylm import Tensor, nn, optim


class Classifier(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.ones(width, np.float32))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        rows = tinylm.layer_norm(x.reshape(-1, 8), self.weight, eps=1e-6)
        logits: Tensor = self.head(tinylm.relu(rows))
        return logits


model = Classifier(8, 3)
optimizer = optim.AdamW(model.parameters(), lr=0.1)
loss: Tensor = tinylm.cross_entropy(model(Tensor(np.ones((4, 2, 4), np.float32))), np.array([0, 1, 2, 0]))
loss.backward()
optimizer.step()
