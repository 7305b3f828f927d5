// The nonlinearities by number: the same list as in tinylm/bindings/activation_numbers.py.

enum Activation { NONE, RELU, GELU, SILU, SIGMOID, TANH };
