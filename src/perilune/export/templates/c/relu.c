/* NaN stays NaN. */
static void apply_relu(int outputs, float *y)
{
    for (int j = 0; j < outputs; j++)
        y[j] = y[j] < 0.0f ? 0.0f : y[j];
}
