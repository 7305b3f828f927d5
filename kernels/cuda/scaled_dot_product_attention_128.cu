// Scaled dot-product attention for D and E of at most 128; scaled_dot_product_attention.cuh explains it.
constexpr int WIDTH = 128, C = 2, FORWARD_R = 2, BACKWARD_R = 1;

#include "bfloat16.cuh"
#include "attention_tiles.cuh"
#include "philox.cuh"
#include "attention_arguments.cuh"
#include "scaled_dot_product_attention.cuh"
