/* Rotary position embedding: see rotary.c. */
#ifndef TINYLM_ROTARY_H
#define TINYLM_ROTARY_H

#include <stdint.h>

int rotary(const int64_t *numbers, const float *x, const float *cos, const float *sin, float sign, int interleaved, float *y);

#endif
