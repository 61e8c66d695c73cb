// Streams, containers, algorithms; a file through the C library, which is all that libc++ has here.
#include <algorithm>
#include <cstdio>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

struct Closer {
    void operator()(FILE *file) const { std::fclose(file); }
};

int main(int argc, char **argv) {
    std::map<std::string, int> words;
    std::string word;
    while (std::cin >> word) words[word]++;
    for (auto &[name, count] : words) std::cout << name << " " << count << "\n";
    std::vector<double> numbers;
    for (int i = 0; i < 1000; i++) numbers.push_back((i * 7919) % 1000 / 8.0);
    std::sort(numbers.begin(), numbers.end());
    std::cout << std::fixed << std::setprecision(3) << numbers.front() << " " << numbers.back() << "\n";
    std::ostringstream text;
    for (double number : numbers) text << number << '\n';
    {
        std::unique_ptr<FILE, Closer> file(std::fopen("numbers.txt", "w"));
        std::fwrite(text.str().data(), 1, text.str().size(), file.get());
    }
    std::unique_ptr<FILE, Closer> file(std::fopen("numbers.txt", "r"));
    std::string back(text.str().size() + 1, '?');
    std::cout << (std::fread(back.data(), 1, back.size(), file.get()) == text.str().size()) << "\n";
    std::cout << (back.substr(0, text.str().size()) == text.str()) << " " << std::remove("numbers.txt") << std::endl;
    std::cerr << "words: " << words.size() << ", arguments: " << argc - 1 << std::endl;
    return static_cast<int>(words.size());
}
