/* Declarations of what Python calls in kernels/cpu, for C programs. */
#pragma once

#include "attention.h"
#include "joint_linear.h"
#include "recurrent.h"
#include "rotary.h"

int use_sgemm(void *routine);
int linear_forward(
    int64_t, int64_t, int64_t, int, const float *, const float *, const float *, const float *, int, float *, float *
);
int linear_backward(
    int64_t, int64_t, int64_t, int, const float *, const float *, int, const float *, const float *, float *, float *, float *, float *
);
int matmul_batches(int64_t, int64_t, int64_t, int64_t, int, const float *, int64_t, int, const float *, int64_t, int, float *);
int product_tile(int64_t *);
#define LAYER const RecurrentSizes *, int, const float *, const float *, const float *
int rnn_forward(LAYER, const float *, const float *, int, float *, float *);
int rnn_backward(LAYER, int, const float *, const float *, float *, float *, float *, float *, float *, float *, float *);
int lstm_forward(LAYER, const float *, const float *, float *, float *, float *);
int lstm_backward(
    LAYER, const float *, const float *, const float *, const float *, float *, float *, float *, float *, float *, float *, float *, float *
);
int gru_forward(LAYER, const float *, const float *, float *, float *, float *);
int gru_backward(
    LAYER, const float *, const float *, const float *, const float *, float *, float *, float *, float *, float *, float *, float *
);
int norm_forward(int64_t, int64_t, int, const float *, const float *, const float *, float, float *, float *);
int norm_backward(
    int64_t, int64_t, int, const float *, const float *, const float *, const float *, float *, float *, float *
);
int softmax_forward(int64_t, int64_t, int, const float *, float *);
int softmax_backward(int64_t, int64_t, int, const float *, const float *, float *);
int cross_entropy_forward(
    int64_t, int64_t, const float *, const int64_t *, int64_t, float, int, float *, float *, float *, float *
);
int cross_entropy_backward(
    int64_t, int64_t, const float *, const int64_t *, int64_t, float, const float *, const float *, int, float, float *
);
int adamw(
    int64_t, float *, const float *, float *, float *, float, float, float, float, float, float, float, float, float, float
);
int sgd(int64_t, float *, const float *, float *, float, float, float, float, float, int);
int muon(int64_t, int64_t, int64_t, float *, const float *, float *, float, float, float, float, float);
int squared_norm(int64_t, const float *, float *);
int swiglu_forward(int64_t, const float *, const float *, float *);
int swiglu_backward(int64_t, const float *, const float *, const float *, float *, float *);
int rotary_heads_forward(
    const JointLinearSizes *, const RotaryLayout *, int, const float *, const float *, const float *, const float *, const float *, const float *,
    const float *, const float *, const float *, int, float *
);
int joint_linear_backward(
    const JointLinearSizes *, int, const float *, const float *, const float *, const float *, const float *, float *, float *, float *, float *,
    float *, float *, float *
);
int dropout_forward(int64_t, const float *, uint64_t, uint64_t, uint64_t, float, uint8_t *, float *);
int dropout_backward(int64_t, const float *, float, uint8_t *, float *);
int embedding_forward(int64_t, int64_t, int64_t, const int64_t *, const float *, float *);
int embedding_backward(int64_t, int64_t, int64_t, int64_t, const int64_t *, const float *, float *);
#define ATTENTION \
    const AttentionLayout *, int, float, const AttentionDropout *, const float *, const float *, const float *, const uint8_t *
int scaled_dot_product_attention_forward(ATTENTION, float *);
int scaled_dot_product_attention_backward(
    ATTENTION, const AttentionGradientLayout *, const float *, float *, float *, float *
);
