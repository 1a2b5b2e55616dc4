/* Layer normalization: y = gain (y - mean) / sqrt(variance + epsilon) + shift. */
static void normalize(int outputs, const float *gain, const float *shift, float *restrict y)
{
    float mean = 0.0f, variance = 0.0f, factor;

    for (int j = 0; j < outputs; j++)
        mean += y[j];
    mean /= (float)outputs;
    for (int j = 0; j < outputs; j++) {
        y[j] -= mean;
        variance += y[j] * y[j];
    }
    factor = 1.0f / sqrtf(variance / (float)outputs + @epsilon);
    for (int j = 0; j < outputs; j++)
        y[j] = y[j] * factor * gain[j] + shift[j];
}
