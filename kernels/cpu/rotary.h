/* Rotary position embedding: see rotary.c. */
#ifndef TINYLM_ROTARY_H
#define TINYLM_ROTARY_H

#include "attention.h"

/* x and y (batch, heads, steps, 2 pairs). */
typedef struct {
    int64_t batch, heads, steps, pairs;
    Strides x, y;
} RotaryLayout;

int rotary(const RotaryLayout *layout, const float *x, const float *cos, const float *sin, float sign, int interleaved, float *y);

#endif
