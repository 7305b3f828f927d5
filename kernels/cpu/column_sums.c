/* Column sums: the gradient of a bias. Rows are added up in blocks, since one sum over many rows would lose digits. */

#include "column_sums.h"

#include "pool.h"

void column_sums_part(const ColumnSums *s, int part, int parts) {
    enum { WIDTH = 256, HEIGHT = 64 }; /* sums of sums: a rounding error of rows / 64 + 64 additions at most */
    int64_t first, last;
    part_range(s->sums ? s->columns : 0, 16, part, parts, &first, &last);
    for (int64_t from = first; from < last; from += WIDTH) {
        int width = (int)(last - from < WIDTH ? last - from : WIDTH);
        float total[WIDTH] = {0}, block[WIDTH];
        for (int64_t i = 0; i < s->rows; i += HEIGHT) {
            int64_t end = s->rows - i < HEIGHT ? s->rows : i + HEIGHT;
            for (int j = 0; j < width; j++) block[j] = 0;
            for (int64_t row = i; row < end; row++) {
                const float *values = s->x + row * s->stride + from;
                for (int j = 0; j < width; j++) block[j] += values[j];
            }
            for (int j = 0; j < width; j++) total[j] += block[j];
        }
        for (int j = 0; j < width; j++) s->sums[from + j] = total[j];
    }
}
