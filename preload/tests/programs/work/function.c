struct recordNUMBER {
    int first;
    char *name;
    long list[COUNT];
};
static long functionNUMBER(long x) {
    struct recordNUMBER *record = calloc(1, sizeof *record);
    record->first = (int)(x % LENGTH);
    record->name = malloc(LENGTH + 1);
    memset(record->name, 'a' + NUMBER % 26, LENGTH);
    record->name[LENGTH] = 0;
    for (int i = 0; i < COUNT; i++) {
        record->list[i] = x * i + record->first;
    }
    x = (x * 31 + (long)strlen(record->name) + record->list[COUNT - 1]) % 1000003;
    free(record->name);
    free(record);
    return x;
}
