// Scaled dot-product attention for D and E of at most 32; scaled_dot_product_attention.cuh explains it.
constexpr int WIDTH = 32, C = 4, FORWARD_R = 4, BACKWARD_R = 2;

#include "bfloat16.cuh"
#include "attention_tiles.cuh"
#include "philox.cuh"
#include "attention_arguments.cuh"
#include "scaled_dot_product_attention.cuh"
