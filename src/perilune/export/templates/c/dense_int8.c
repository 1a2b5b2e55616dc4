/* y = (x W) scale + b. Skips zeros in x, which are frequent after ReLU and one-hot encoding. Rows of W are added
 * in pairs, because this loads and stores y half as often. */
static void dense(int inputs, int outputs, const float *x, const signed char *weight, const float *scale,
                  const float *bias, float *restrict y)
{
    const signed char *row = 0; /* the first row of a pair, and its x */
    float first = 0.0f;

    for (int j = 0; j < outputs; j++)
        y[j] = 0.0f;
    for (int i = 0; i < inputs; i++, weight += outputs) {
        const float xi = x[i];
        if (xi == 0.0f)
            continue;
        if (row) {
            for (int j = 0; j < outputs; j++)
                y[j] += first * (float)row[j] + xi * (float)weight[j];
            row = 0;
        } else {
            row = weight;
            first = xi;
        }
    }
    if (row)
        for (int j = 0; j < outputs; j++)
            y[j] += first * (float)row[j];
    for (int j = 0; j < outputs; j++)
        y[j] = y[j] * scale[j] + bias[j];
}
