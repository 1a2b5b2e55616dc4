static void apply_tanh(int outputs, float *y)
{
    for (int j = 0; j < outputs; j++)
        y[j] = tanhf(y[j]);
}
