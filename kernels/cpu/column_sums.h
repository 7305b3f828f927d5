/* Column sums of a matrix: see column_sums.c. */
#ifndef TINYLM_COLUMN_SUMS_H
#define TINYLM_COLUMN_SUMS_H

#include <stdint.h>

/* Column sums: sums[j] = Σ_i x[i][j]; nothing is done if sums is null. */
typedef struct {
    const float *x;
    int64_t rows, columns, stride;
    float *sums;
} ColumnSums;

/* This part's column sums, to be called by every part of a run. */
void column_sums_part(const ColumnSums *sums, int part, int parts);

#endif
