/* The nonlinearities by number: the same list as in tinylm/bindings/activation_numbers.py. */
#ifndef TINYLM_ACTIVATIONS_H
#define TINYLM_ACTIVATIONS_H

enum Activation { NONE, RELU, GELU, SILU, SIGMOID, TANH };

#endif
