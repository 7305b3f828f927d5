/* Packing and products of operands rounded to bfloat16: see panels_bfloat16.c. */
#ifndef TINYLM_PANELS_BFLOAT16_H
#define TINYLM_PANELS_BFLOAT16_H

#include "panels.h"

/* What multiplies rounded numbers: float32 multiply-adds, the processor's dot products of pairs (AVX-512 BF16), or its tiles (AMX). */
typedef enum { FLOATS, DOTS, TILES } Unit;

/* The unit of this processor and this process. It never changes. */
Unit rounded_unit(void);

/* About how many of its multiply-adds take as long as one of float32. */
int rounded_speed(void);

/* As the functions of panels.h. `panel` is one panel, `width` columns of which are B's. */
int64_t rounded_depth(int64_t k);
void rounded_pack_panel(const float *b, int64_t stride, int transposed, int64_t k, int width, float *panel);
void rounded_multiply(
    const float *a, int64_t a_stride, int a_transposed, int64_t rows, int64_t k, const float *packed, int64_t packed_k, int64_t n, float *c,
    int64_t c_stride, int add
);

#endif
