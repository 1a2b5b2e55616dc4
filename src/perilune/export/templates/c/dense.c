/* y = x W + b. Skips zeros in x, which are frequent after ReLU and one-hot encoding. Rows of W are added in
 * pairs, because this loads and stores y half as often. */
static void dense(int inputs, int outputs, const float *x, const float *weight, const float *bias, float *restrict y)
{
    const float *row = 0; /* the first row of a pair, and its x */
    float first = 0.0f;

    for (int j = 0; j < outputs; j++)
        y[j] = bias[j];
    for (int i = 0; i < inputs; i++, weight += outputs) {
        const float xi = x[i];
        if (xi == 0.0f)
            continue;
        if (row) {
            for (int j = 0; j < outputs; j++)
                y[j] += first * row[j] + xi * weight[j];
            row = 0;
        } else {
            row = weight;
            first = xi;
        }
    }
    if (row)
        for (int j = 0; j < outputs; j++)
            y[j] += first * row[j];
}
